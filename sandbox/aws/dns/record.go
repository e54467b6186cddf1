package dns

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Route 53 writes a byte that is no plain letter as \ooo in octal, the format of zone files as \ddd in decimal.
// Names and values are turned from one into the other here.

// toRoute53 writes a name as Route 53 does.
func toRoute53(name string) string {
	var out strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			out.WriteByte(name[i])
			continue
		}
		code, width := escaped(name[i+1:], 10)
		if width == 0 && i+1 < len(name) {
			code, width = name[i+1], 1
		}
		fmt.Fprintf(&out, `\%03o`, code)
		i += width
	}
	return out.String()
}

// fromRoute53 writes a name or a value as zone files do.
func fromRoute53(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		if code, width := escaped(text[i+1:], 8); width > 0 {
			fmt.Fprintf(&out, `\%03d`, code)
			i += width
			continue
		}
		out.WriteString(text[i : i+2]) // such as \" within a text
		i++
	}
	return out.String()
}

// escaped reads the three digits of a byte; the width is 0 if there are none.
func escaped(text string, base int) (code byte, width int) {
	if len(text) < 3 {
		return 0, 0
	}
	value, err := strconv.ParseUint(text[:3], base, 8)
	if err != nil {
		return 0, 0
	}
	return byte(value), 3
}

var errSeveral = errors.New("the value is more than one record")

// parse makes a record of a value that was given to Route 53. A name in it needs no dot at the end.
func parse(owner, kind string, ttl time.Duration, value string) (dns.RR, error) {
	if strings.ContainsAny(value, "\n\r") {
		return nil, errSeveral
	}
	line := fmt.Sprintf(". %d IN %s %s\n", int64(ttl/time.Second), kind, fromRoute53(value))
	zone := dns.NewZoneParser(strings.NewReader(line), ".", "")
	record, ok := zone.Next()
	if err := zone.Err(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("the value is empty")
	}
	record.Header().Name = owner
	return record, nil
}
