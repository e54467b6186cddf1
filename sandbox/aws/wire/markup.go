package wire

import (
	"reflect"
	"sync"
	"unicode"
	"unicode/utf8"
)

// markup knows how a service names things in XML, in requests and in answers.
type markup struct {
	namespace string
	// item is the element of a list in an answer: given the type of the elements and the list's own name.
	item         func(element reflect.Type, list string) string
	requestNames map[string]string
	answerNames  map[string]string
	answerName   func(field string) string

	plans sync.Map // reflect.Type -> []field
}

func itemNamed(name string) func(reflect.Type, string) string {
	return func(reflect.Type, string) string { return name }
}

// field is what the protocol knows of one field of an SDK struct.
type field struct {
	index   int
	request string
	answer  string
}

// fields lists the fields of a struct type that travel. Fields whose package path is set are private to
// the SDK, ResultMetadata is the SDK's own.
func (m *markup) fields(t reflect.Type) []field {
	if known, ok := m.plans.Load(t); ok {
		return known.([]field)
	}
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		if f.PkgPath != "" || f.Name == "ResultMetadata" {
			continue
		}
		one := field{index: i, request: f.Name, answer: m.answerName(f.Name)}
		if name, ok := m.requestNames[t.Name()+"."+f.Name]; ok {
			one.request = name
		}
		if name, ok := m.answerNames[t.Name()+"."+f.Name]; ok {
			one.answer = name
		}
		list = append(list, one)
	}
	known, _ := m.plans.LoadOrStore(t, list)
	return known.([]field)
}

func sameName(s string) string { return s }

func smallFirst(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[size:]
}

func largeFirst(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}
