package dataplane

import (
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// attributeNames are those of RFC 2253, and what OpenSSL calls an address of mail.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C", "2.5.4.9": "STREET",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID", "1.2.840.113549.1.9.1": "emailAddress",
}

// relativeSET is one part of a name, with its values as they stand in the certificate. (Package asn1 wants the ending.)
type relativeSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// distinguishedName writes a name as RFC 2253 does, the last part first. Control characters and everything beyond ASCII are escaped, as the RFC allows:
// a certificate must not be able to end the header that it stands in.
func distinguishedName(der []byte) string {
	var parts []relativeSET
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		return "#" + hex.EncodeToString(der)
	}
	var names []string
	for _, part := range slices.Backward(parts) {
		var values []string
		for _, one := range part {
			var text string
			if name := attributeNames[one.Type.String()]; name != "" && is(one.Value, &text) {
				values = append(values, name+"="+escapedValue(text))
			} else {
				values = append(values, one.Type.String()+"=#"+hex.EncodeToString(one.Value.FullBytes))
			}
		}
		names = append(names, strings.Join(values, "+"))
	}
	return strings.Join(names, ",")
}

// is says whether a value is a text, and which.
func is(value asn1.RawValue, text *string) bool {
	_, err := asn1.Unmarshal(value.FullBytes, text)
	return err == nil
}

func escapedValue(text string) string {
	var b strings.Builder
	for i := range len(text) {
		char := text[i]
		switch {
		case char < ' ' || char >= 0x7f:
			fmt.Fprintf(&b, `\%02X`, char)
			continue
		case strings.IndexByte(`,+"\<>;`, char) >= 0, i == 0 && (char == '#' || char == ' '), i == len(text)-1 && char == ' ':
			b.WriteByte('\\')
		}
		b.WriteByte(char)
	}
	return b.String()
}
