package wire

import (
	"errors"
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

// Query is the protocol in which a request is a form and an answer is XML: "query", and "EC2 query" with
// its own ways of counting lists and of naming things.
type Query struct {
	markup
	version string
	// flat lists count their elements at once (Filter.1) instead of below "member" (Filter.member.1).
	flat bool
	// result wraps the members of an answer in <OperationResult>.
	result bool
}

// The services that speak query. CloudWatchQuery is what CloudWatch speaks with older SDKs.
var (
	ELBv2 = &Query{version: "2015-12-01", result: true, markup: markup{
		namespace: "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/", item: itemNamed("member"), answerName: sameName,
	}}
	STS = &Query{version: "2011-06-15", result: true, markup: markup{
		namespace: "https://sts.amazonaws.com/doc/2011-06-15/", item: itemNamed("member"), answerName: sameName,
		requestNames: map[string]string{"PolicyDescriptorType.Arn": "arn"},
	}}
	CloudWatchQuery = &Query{version: "2010-08-01", result: true, markup: markup{
		namespace: "http://monitoring.amazonaws.com/doc/2010-08-01/", item: itemNamed("member"), answerName: sameName,
	}}
	EC2 = &Query{version: "2016-11-15", flat: true, markup: markup{
		namespace: "http://ec2.amazonaws.com/doc/2016-11-15/", item: itemNamed("item"), answerName: smallFirst,
		requestNames: ec2RequestNames, answerNames: ec2AnswerNames,
	}}
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
func (q *Query) Decode(form url.Values, into any) (unknown []string, err error) {
	if len(form) > maxParameters {
		return nil, q.malformed("a request with %d parameters is more than the %d that are read", len(form), maxParameters)
	}
	root := &node{}
	for name, values := range form {
		if name == "Action" || name == "Version" || len(values) == 0 {
			continue
		}
		if err := q.insert(root, name, values[0]); err != nil {
			return nil, err
		}
	}
	if err := q.decode(root, reflect.ValueOf(into).Elem(), ""); err != nil {
		return nil, err
	}
	unknown = root.unused("", nil)
	slices.Sort(unknown)
	return unknown, nil
}

func (q *Query) insert(root *node, name, value string) error {
	at := root
	depth := 0
	for part := range strings.SplitSeq(name, ".") {
		if depth++; depth > maxDepth {
			return q.malformed("parameter %.60s... is nested deeper than %d levels", name, maxDepth)
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

func (q *Query) decode(n *node, v reflect.Value, name string) error {
	switch v.Kind() {
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		if err := q.decode(n, target.Elem(), name); err != nil {
			return err
		}
		v.Set(target)
		return nil
	case reflect.Struct:
		if v.Type() == timeType {
			return q.decodeScalar(n, v, name)
		}
		return q.decodeStruct(n, v, name)
	case reflect.Slice:
		return q.decodeList(n, v, name)
	case reflect.Map:
		return q.decodeMap(n, v, name)
	default:
		return q.decodeScalar(n, v, name)
	}
}

func (q *Query) decodeStruct(n *node, v reflect.Value, name string) error {
	// An empty value stands for a structure without members.
	n.used = n.used || n.value == ""
	for _, f := range q.fields(v.Type()) {
		child := n.children[f.request]
		if child == nil {
			continue
		}
		if err := q.decode(child, v.Field(f.index), join(name, f.request)); err != nil {
			return err
		}
	}
	return nil
}

func (q *Query) decodeList(n *node, v reflect.Value, name string) error {
	elements := n
	if !q.flat {
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
	indices, err := q.indices(elements, name)
	if err != nil {
		return err
	}
	list := reflect.MakeSlice(v.Type(), len(indices), len(indices))
	for i, index := range indices {
		key := strconv.Itoa(index)
		if err := q.decode(elements.children[key], list.Index(i), join(name, key)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// indices sorts the numbered children of a list. Gaps are closed up, as AWS does.
func (q *Query) indices(n *node, name string) ([]int, error) {
	found := make([]int, 0, len(n.children))
	for key := range n.children {
		index, err := strconv.Atoi(key)
		if err != nil || index < 0 || strconv.Itoa(index) != key {
			return nil, q.malformed("%s.%.40s is no index of a list", name, key)
		}
		found = append(found, index)
	}
	slices.Sort(found)
	return found, nil
}

func (q *Query) decodeMap(n *node, v reflect.Value, name string) error {
	v.Set(reflect.MakeMap(v.Type()))
	entries := n.children["entry"]
	if entries == nil {
		n.used = n.used || n.value == ""
		return nil
	}
	indices, err := q.indices(entries, name)
	if err != nil {
		return err
	}
	for _, index := range indices {
		entry := entries.children[strconv.Itoa(index)]
		key := reflect.New(v.Type().Key()).Elem()
		value := reflect.New(v.Type().Elem()).Elem()
		for part, into := range map[string]reflect.Value{"key": key, "value": value} {
			if child := entry.children[part]; child != nil {
				if err := q.decode(child, into, join(name, part)); err != nil {
					return err
				}
			}
		}
		v.SetMapIndex(key, value)
	}
	return nil
}

func (q *Query) decodeScalar(n *node, v reflect.Value, name string) error {
	n.used = true
	if err := parseScalar(v, n.value); err != nil {
		return q.malformed("%s: %.60q %v", name, n.value, err)
	}
	return nil
}

// parseScalar reads a text as what v holds.
func parseScalar(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "true", "1":
			v.SetBool(true)
		case "false", "0":
			v.SetBool(false)
		default:
			return errors.New("is neither true nor false")
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("is not a %s", v.Kind())
		}
		v.SetInt(i)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("is not a %s", v.Kind())
		}
		v.SetFloat(f)
	case reflect.Struct: // only times have no members
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return errors.New("is no ISO 8601 time")
		}
		v.Set(reflect.ValueOf(t.UTC()))
	default:
		return errors.New("is of a type that cannot be sent")
	}
	return nil
}

func (q *Query) malformed(format string, args ...any) *Error {
	code := "MalformedInput"
	if q.flat {
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
