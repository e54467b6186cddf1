package wire

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds on what a request may contain. AWS does not publish its own; a request beyond these is refused
// rather than worked on.
const (
	maxParameters = 50_000
	maxDepth      = 16
)

// node is one step of a dotted parameter name: Filter.1.Value.2 is four of them.
type node struct {
	value    string
	valued   bool
	used     bool
	children map[string]*node
}

// Decode fills the SDK input struct that into points to from the parameters of a request. It returns
// the names of parameters that the operation does not have (sorted; Action and Version are known to
// every operation), for the caller to refuse or to ignore as its service does.
//
// Its errors are *Error with code MalformedInput (query) or InvalidParameterValue (EC2).
func (p *Protocol) Decode(form url.Values, into any) (unknown []string, err error) {
	if len(form) > maxParameters {
		return nil, p.malformed("a request with %d parameters is more than the %d that are read", len(form), maxParameters)
	}
	root := &node{}
	for name, values := range form {
		if name == "Action" || name == "Version" || len(values) == 0 {
			continue
		}
		if err := p.insert(root, name, values[0]); err != nil {
			return nil, err
		}
	}
	if err := p.decode(root, reflect.ValueOf(into).Elem(), ""); err != nil {
		return nil, err
	}
	unknown = root.unused("", nil)
	slices.Sort(unknown)
	return unknown, nil
}

func (p *Protocol) insert(root *node, name, value string) error {
	at := root
	depth := 0
	for part := range strings.SplitSeq(name, ".") {
		if depth++; depth > maxDepth {
			return p.malformed("parameter %.60s... is nested deeper than %d levels", name, maxDepth)
		}
		if at.children == nil {
			at.children = map[string]*node{}
		}
		next := at.children[part]
		if next == nil {
			next = &node{}
			at.children[part] = next
		}
		at = next
	}
	at.value, at.valued = value, true
	return nil
}

// unused lists the full names of parameters that no field took.
func (n *node) unused(prefix string, found []string) []string {
	if n.valued && !n.used {
		found = append(found, prefix)
	}
	for name, child := range n.children {
		if prefix != "" {
			name = prefix + "." + name
		}
		found = child.unused(name, found)
	}
	return found
}

var timeType = reflect.TypeFor[time.Time]()

func (p *Protocol) decode(n *node, v reflect.Value, name string) error {
	switch v.Kind() {
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		if err := p.decode(n, target.Elem(), name); err != nil {
			return err
		}
		v.Set(target)
		return nil
	case reflect.Struct:
		if v.Type() == timeType {
			return p.decodeTime(n, v, name)
		}
		return p.decodeStruct(n, v, name)
	case reflect.Slice:
		return p.decodeList(n, v, name)
	case reflect.Map:
		return p.decodeMap(n, v, name)
	default:
		return p.decodeScalar(n, v, name)
	}
}

func (p *Protocol) decodeStruct(n *node, v reflect.Value, name string) error {
	// An empty value stands for a structure without members.
	n.used = n.used || n.value == ""
	for _, f := range p.fields(v.Type()) {
		child := n.children[f.request]
		if child == nil {
			continue
		}
		if err := p.decode(child, v.Field(f.index), join(name, f.request)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Protocol) decodeList(n *node, v reflect.Value, name string) error {
	elements := n
	if !p.flat {
		// `Name=` is an empty list, and says something other than no list at all.
		if n.valued && n.value == "" {
			n.used = true
		}
		if member := n.children["member"]; member != nil {
			elements = member
		} else {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			return nil
		}
	}
	indices, err := p.indices(elements, name)
	if err != nil {
		return err
	}
	list := reflect.MakeSlice(v.Type(), len(indices), len(indices))
	for i, index := range indices {
		key := strconv.Itoa(index)
		if err := p.decode(elements.children[key], list.Index(i), join(name, key)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// indices sorts the numbered children of a list. Gaps are closed up, as AWS does.
func (p *Protocol) indices(n *node, name string) ([]int, error) {
	found := make([]int, 0, len(n.children))
	for key := range n.children {
		index, err := strconv.Atoi(key)
		if err != nil || index < 0 || strconv.Itoa(index) != key {
			return nil, p.malformed("%s.%.40s is no index of a list", name, key)
		}
		found = append(found, index)
	}
	slices.Sort(found)
	return found, nil
}

func (p *Protocol) decodeMap(n *node, v reflect.Value, name string) error {
	v.Set(reflect.MakeMap(v.Type()))
	entries := n.children["entry"]
	if entries == nil {
		n.used = n.used || n.value == ""
		return nil
	}
	indices, err := p.indices(entries, name)
	if err != nil {
		return err
	}
	for _, index := range indices {
		entry := entries.children[strconv.Itoa(index)]
		key := reflect.New(v.Type().Key()).Elem()
		value := reflect.New(v.Type().Elem()).Elem()
		for part, into := range map[string]reflect.Value{"key": key, "value": value} {
			if child := entry.children[part]; child != nil {
				if err := p.decode(child, into, join(name, part)); err != nil {
					return err
				}
			}
		}
		v.SetMapIndex(key, value)
	}
	return nil
}

func (p *Protocol) decodeTime(n *node, v reflect.Value, name string) error {
	n.used = true
	t, err := time.Parse(time.RFC3339Nano, n.value)
	if err != nil {
		return p.malformed("%s: %q is no ISO 8601 time", name, n.value)
	}
	v.Set(reflect.ValueOf(t.UTC()))
	return nil
}

func (p *Protocol) decodeScalar(n *node, v reflect.Value, name string) error {
	n.used = true
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.value)
	case reflect.Bool:
		var b bool
		switch strings.ToLower(n.value) {
		case "true", "1":
			b = true
		case "false", "0":
		default:
			err = fmt.Errorf("neither true nor false")
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		var i int64
		if i, err = strconv.ParseInt(n.value, 10, v.Type().Bits()); err == nil {
			v.SetInt(i)
		}
	case reflect.Float32, reflect.Float64:
		var f float64
		if f, err = strconv.ParseFloat(n.value, v.Type().Bits()); err == nil {
			v.SetFloat(f)
		}
	default:
		err = fmt.Errorf("of a type that cannot be sent")
	}
	if err != nil {
		return p.malformed("%s: %.60q is not a %s", name, n.value, v.Kind())
	}
	return nil
}

func (p *Protocol) malformed(format string, args ...any) *Error {
	code := "MalformedInput"
	if p.flat {
		code = "InvalidParameterValue"
	}
	return Errorf(code, format, args...)
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}
