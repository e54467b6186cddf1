package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Answer writes the answer of an operation: output is a pointer to the SDK's output struct. Absent
// (nil) members leave no element, an empty list leaves an empty one.
func (p *Protocol) Answer(operation, requestID string, output any) ([]byte, error) {
	var out bytes.Buffer
	v := reflect.ValueOf(output).Elem()
	fmt.Fprintf(&out, `<%sResponse xmlns="%s">`, operation, p.namespace)
	var err error
	if p.result {
		fmt.Fprintf(&out, "<%sResult>", operation)
		err = p.members(&out, v)
		fmt.Fprintf(&out, "</%sResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata>", operation, requestID)
	} else {
		fmt.Fprintf(&out, "<requestId>%s</requestId>", requestID)
		if len(p.fields(v.Type())) == 0 {
			out.WriteString("<return>true</return>")
		}
		err = p.members(&out, v)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot answer %s: %w", operation, err)
	}
	fmt.Fprintf(&out, "</%sResponse>", operation)
	return out.Bytes(), nil
}

func (p *Protocol) members(out *bytes.Buffer, v reflect.Value) error {
	for _, f := range p.fields(v.Type()) {
		if err := p.element(out, f.answer, v.Field(f.index)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Protocol) element(out *bytes.Buffer, name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return p.element(out, name, v.Elem())
	case reflect.Slice, reflect.Map:
		if v.IsNil() {
			return nil
		}
	case reflect.String:
		// Enumerations are plain strings in the SDK; the empty one is absent.
		if v.Len() == 0 && v.Type() != reflect.TypeFor[string]() {
			return nil
		}
	}
	open(out, name)
	if err := p.content(out, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	closing(out, name)
	return nil
}

func (p *Protocol) content(out *bytes.Buffer, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == timeType {
			out.WriteString(v.Interface().(time.Time).UTC().Format("2006-01-02T15:04:05.000Z"))
			return nil
		}
		return p.members(out, v)
	case reflect.Slice:
		for i := range v.Len() {
			if err := p.element(out, p.item, v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		return p.entries(out, v)
	case reflect.String:
		return xml.EscapeText(out, []byte(v.String()))
	case reflect.Bool:
		out.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int32, reflect.Int64:
		out.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Float32, reflect.Float64:
		out.WriteString(strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits()))
	default:
		return fmt.Errorf("a %s cannot be sent", v.Kind())
	}
	return nil
}

func (p *Protocol) entries(out *bytes.Buffer, v reflect.Value) error {
	byKey := map[string]reflect.Value{}
	for key, value := range v.Seq2() {
		byKey[key.String()] = value
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		open(out, "entry")
		if err := p.element(out, "key", reflect.ValueOf(key)); err != nil {
			return err
		}
		if err := p.element(out, "value", byKey[key]); err != nil {
			return err
		}
		closing(out, "entry")
	}
	return nil
}

func open(out *bytes.Buffer, name string) {
	out.WriteByte('<')
	out.WriteString(name)
	out.WriteByte('>')
}

func closing(out *bytes.Buffer, name string) {
	out.WriteString("</")
	out.WriteString(name)
	out.WriteByte('>')
}
