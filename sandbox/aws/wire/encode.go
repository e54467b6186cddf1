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

func (m *markup) members(out *bytes.Buffer, v reflect.Value) error {
	for _, f := range m.fields(v.Type()) {
		if err := m.element(out, f.answer, v.Field(f.index)); err != nil {
			return err
		}
	}
	return nil
}

// answer writes the members of an answer. A list that is empty is there all the same: clients of other languages take it for
// granted, at this level and not below it.
func (m *markup) answer(out *bytes.Buffer, v reflect.Value) error {
	for _, f := range m.fields(v.Type()) {
		member := v.Field(f.index)
		if member.Kind() == reflect.Slice && member.IsNil() {
			member = reflect.MakeSlice(member.Type(), 0, 0)
		}
		if err := m.element(out, f.answer, member); err != nil {
			return err
		}
	}
	return nil
}

func (m *markup) element(out *bytes.Buffer, name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return m.element(out, name, v.Elem())
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
	if err := m.content(out, name, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	closing(out, name)
	return nil
}

func (m *markup) content(out *bytes.Buffer, name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == timeType {
			out.WriteString(v.Interface().(time.Time).UTC().Format("2006-01-02T15:04:05.000Z"))
			return nil
		}
		return m.members(out, v)
	case reflect.Slice:
		for i := range v.Len() {
			if err := m.element(out, m.item(v.Type().Elem(), name), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		return m.entries(out, v)
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

func (m *markup) entries(out *bytes.Buffer, v reflect.Value) error {
	byKey := map[string]reflect.Value{}
	for key, value := range v.Seq2() {
		byKey[key.String()] = value
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		open(out, "entry")
		if err := m.element(out, "key", reflect.ValueOf(key)); err != nil {
			return err
		}
		if err := m.element(out, "value", byKey[key]); err != nil {
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
