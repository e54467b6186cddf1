package desync

import (
	"bytes"
	"strings"
)

// write writes the head anew, without what is elsewhere.
func (r *reader) write(text string) []byte {
	var b bytes.Buffer
	b.WriteString(r.method)
	b.WriteByte(' ')
	b.WriteString(r.uri)
	b.WriteByte(' ')
	b.WriteString(r.version)
	b.WriteString("\r\n")
	host := false
	for line, rest := cut(afterLine(text)); line != "" || rest != ""; line, rest = cut(rest) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		known := essential(name)
		switch {
		case line == "" || !token(name), known == "" && controls(value):
			continue
		case known == "content-length", known == "transfer-encoding", known == "expect", known == "host" && host:
			continue
		}
		host = host || known == "host"
		b.WriteString(name + ": " + value + "\r\n")
	}
	switch {
	case r.Length == Chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case len(r.lengths) > 0:
		b.WriteString("Content-Length: " + r.lengths[0] + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func afterLine(text string) string {
	_, rest := cut(text)
	return rest
}

// controls says whether a value has control characters that a header cannot have.
func controls(value string) bool {
	return strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// escaped is a URI without the characters that a URI cannot have.
func escaped(uri string) string {
	const digits = "0123456789ABCDEF"
	var out []byte
	for _, c := range []byte(uri) {
		if c <= ' ' || c == 0x7f {
			out = append(out, '%', digits[c>>4], digits[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}
