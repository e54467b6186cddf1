package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// A tree is a document of JSON or CBOR before it becomes a Go struct and after it was one: nil, bool,
// string, []byte, time.Time, json.Number, int64, float64, []any or map[string]any. Members have the
// names of the Go fields.

// assign fills v from a tree. It collects the names of members that no field takes.
func assign(v reflect.Value, tree any, path string, unknown *[]string) error {
	if tree == nil {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		if err := assign(target.Elem(), tree, path, unknown); err != nil {
			return err
		}
		v.Set(target)
		return nil
	case reflect.Struct:
		if v.Type() == timeType {
			return assignTime(v, tree, path)
		}
		return assignMembers(v, tree, path, unknown)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return assignBytes(v, tree, path)
		}
		return assignList(v, tree, path, unknown)
	case reflect.Map:
		return assignMap(v, tree, path, unknown)
	case reflect.Interface: // a union; none of the modelled operations needs one
		*unknown = append(*unknown, path)
		return nil
	default:
		return assignScalar(v, tree, path)
	}
}

func assignMembers(v reflect.Value, tree any, path string, unknown *[]string) error {
	members, ok := tree.(map[string]any)
	if !ok {
		return mistyped(path, tree, "a structure")
	}
	taken := 0
	for i := range v.NumField() {
		f := v.Type().Field(i)
		member, ok := members[f.Name]
		if !ok { // a few types, such as the filters of ACM, begin with small letters
			member, ok = members[smallFirst(f.Name)]
		}
		if !travels(f) || !ok {
			continue
		}
		taken++
		if err := assign(v.Field(i), member, join(path, f.Name), unknown); err != nil {
			return err
		}
	}
	if taken < len(members) {
		for name := range members {
			if f, ok := v.Type().FieldByName(largeFirst(name)); !ok || !travels(f) {
				*unknown = append(*unknown, join(path, name))
			}
		}
	}
	return nil
}

// travels leaves out what is private to the SDK, and ResultMetadata, which is the SDK's own.
func travels(f reflect.StructField) bool { return f.PkgPath == "" && f.Name != "ResultMetadata" }

func assignList(v reflect.Value, tree any, path string, unknown *[]string) error {
	elements, ok := tree.([]any)
	if !ok {
		return mistyped(path, tree, "a list")
	}
	list := reflect.MakeSlice(v.Type(), len(elements), len(elements))
	for i, element := range elements {
		if err := assign(list.Index(i), element, join(path, strconv.Itoa(i+1)), unknown); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func assignMap(v reflect.Value, tree any, path string, unknown *[]string) error {
	members, ok := tree.(map[string]any)
	if !ok || v.Type().Key().Kind() != reflect.String {
		return mistyped(path, tree, "a map")
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(members)))
	for key, member := range members {
		value := reflect.New(v.Type().Elem()).Elem()
		if err := assign(value, member, join(path, clipped(key)), unknown); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
	}
	return nil
}

func assignTime(v reflect.Value, tree any, path string) error {
	if t, ok := tree.(time.Time); ok {
		v.Set(reflect.ValueOf(t))
		return nil
	}
	seconds, ok := number(tree)
	// Beyond the year 9999 there is no ISO 8601 time.
	if !ok || math.IsNaN(seconds) || math.Abs(seconds) > 253_402_300_799 {
		return mistyped(path, tree, "a time in seconds")
	}
	v.Set(reflect.ValueOf(epoch(seconds)))
	return nil
}

// epoch is a time of so many seconds, to the millisecond, which is all that AWS sends.
func epoch(seconds float64) time.Time { return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC() }

func assignBytes(v reflect.Value, tree any, path string) error {
	switch x := tree.(type) {
	case []byte:
		v.SetBytes(x)
		return nil
	case string:
		if decoded, err := base64.StdEncoding.DecodeString(x); err == nil {
			v.SetBytes(decoded)
			return nil
		}
	}
	return mistyped(path, tree, "bytes in base64")
}

func assignScalar(v reflect.Value, tree any, path string) error {
	switch v.Kind() {
	case reflect.String:
		if s, ok := tree.(string); ok {
			v.SetString(s)
			return nil
		}
		return mistyped(path, tree, "a string")
	case reflect.Bool:
		if b, ok := tree.(bool); ok {
			v.SetBool(b)
			return nil
		}
		return mistyped(path, tree, "a boolean")
	case reflect.Int, reflect.Int32, reflect.Int64:
		if i, ok := integer(tree); ok && !v.OverflowInt(i) {
			v.SetInt(i)
			return nil
		}
		return mistyped(path, tree, "an integer of its range")
	case reflect.Float32, reflect.Float64:
		if f, ok := number(tree); ok {
			v.SetFloat(f)
			return nil
		}
		return mistyped(path, tree, "a number")
	}
	return mistyped(path, tree, "of a type that can be sent")
}

func integer(tree any) (int64, bool) {
	switch x := tree.(type) {
	case int64:
		return x, true
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return i, true
		}
	}
	f, ok := number(tree)
	return int64(f), ok && f == math.Trunc(f) && math.Abs(f) < 1<<53
}

func number(tree any) (float64, bool) {
	switch x := tree.(type) {
	case int64:
		return float64(x), true
	case float64:
		return x, true
	case json.Number:
		f, err := x.Float64()
		return f, err == nil
	case string: // JSON has no other way for these
		switch x {
		case "NaN":
			return math.NaN(), true
		case "Infinity":
			return math.Inf(1), true
		case "-Infinity":
			return math.Inf(-1), true
		}
	}
	return 0, false
}

func mistyped(path string, tree any, want string) error {
	if path == "" {
		path = "the document"
	}
	return Errorf("SerializationException", "%.200s: a %T is not %s", path, tree, want)
}

// grow makes the tree of an SDK struct. Absent members leave nothing.
func grow(v reflect.Value) (any, error) {
	switch v.Kind() {
	case reflect.Pointer:
		return grow(v.Elem())
	case reflect.Struct:
		if v.Type() == timeType {
			return v.Interface(), nil
		}
		return growMembers(v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Bytes(), nil
		}
		list := make([]any, v.Len())
		for i := range list {
			var err error
			if list[i], err = grow(v.Index(i)); err != nil {
				return nil, err
			}
		}
		return list, nil
	case reflect.Map:
		members := make(map[string]any, v.Len())
		for key, value := range v.Seq2() {
			member, err := grow(value)
			if err != nil {
				return nil, err
			}
			members[key.String()] = member
		}
		return members, nil
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Float32, reflect.Float64:
		return v.Float(), nil
	}
	return nil, fmt.Errorf("a %s cannot be sent", v.Kind())
}

func growMembers(v reflect.Value) (any, error) {
	members := map[string]any{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !travels(f) || absent(v.Field(i)) {
			continue
		}
		member, err := grow(v.Field(i))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		members[f.Name] = member
	}
	return members, nil
}

func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsNil()
	case reflect.String:
		// Enumerations are plain strings in the SDK; the empty one is absent.
		return v.Len() == 0 && v.Type() != reflect.TypeFor[string]()
	}
	return false
}

// Parameters are for people to read: of a document that is larger, only so many leaves are listed, and names are cut. Each leaf
// has the names of all that is around it, so that a short document could otherwise have names of many gigabytes.
const (
	maxLeaves = 1000
	maxName   = 200
)

func clipped(name string) string { return name[:min(len(name), maxName)] }

// flatten lists the leaves of a tree by their dotted names.
func flatten(into map[string]string, path string, tree any) {
	if len(into) >= maxLeaves {
		return
	}
	switch x := tree.(type) {
	case map[string]any:
		for name, member := range x {
			if len(into) >= maxLeaves {
				return
			}
			flatten(into, join(path, clipped(name)), member)
		}
	case []any:
		x = x[:min(len(x), maxLeaves)]
		for i, element := range x {
			flatten(into, join(path, strconv.Itoa(i+1)), element)
		}
	case []byte:
		into[path] = fmt.Sprintf("%d bytes", len(x))
	case time.Time:
		into[path] = x.Format(time.RFC3339Nano)
	default:
		into[path] = fmt.Sprint(x)
	}
}

// document is a request whose parameters are a tree.
type document struct {
	operation string
	tree      any
}

// Operation is the name that the request was sent under.
func (d document) Operation() string { return d.operation }

// Parameters are the leaves of the document.
func (d document) Parameters() map[string]string {
	all := map[string]string{}
	if d.tree != nil {
		flatten(all, "", d.tree)
	}
	return all
}

// Decode fills an SDK struct from the document.
func (d document) Decode(into any) (unknown []string, err error) {
	if err := assign(reflect.ValueOf(into).Elem(), d.tree, "", &unknown); err != nil {
		return nil, err
	}
	slices.Sort(unknown)
	return unknown, nil
}
