package route53

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var errName = errors.New("it is not a domain name")

// parseName brings a domain name into the form in which Route 53 keeps it: small letters, a dot at the
// end, and \ooo for every other character than letters, digits, hyphens and underscores.
func parseName(name string) (string, error) {
	var out strings.Builder
	label, whole := 0, 0
	if name == "" || name == "." {
		return ".", nil
	}
	name = strings.TrimSuffix(name, ".")
	for i := 0; i < len(name); i++ {
		b := name[i]
		if b == '.' {
			if label == 0 {
				return "", errName
			}
			label = 0
			out.WriteByte('.')
			whole++
			continue
		}
		if b == '\\' {
			if i+3 >= len(name) {
				return "", errName
			}
			code, err := strconv.ParseUint(name[i+1:i+4], 8, 8)
			if err != nil {
				return "", errName
			}
			b, i = byte(code), i+3
		}
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-' || b == '_' {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, `\%03o`, b)
		}
		if label++; label > 63 {
			return "", errName
		}
		whole++
	}
	if label == 0 || whole > 254 {
		return "", errName
	}
	return out.String() + ".", nil
}

// sortKey orders as Route 53 lists: by name with the labels reversed, by type and by identifier.
func sortKey(name, kind, identifier string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "\x00" + kind + "\x00" + identifier
}

func (r *recordSet) key() string { return sortKey(*r.Name, string(r.Type), deref(r.SetIdentifier)) }

// within says whether a name is the zone's or below it.
func within(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}
