package wire

import (
	"reflect"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Protocol is one XML protocol of AWS with the names of one service.
type Protocol struct {
	namespace string
	// flat lists count their elements at once (Filter.1) instead of below "member" (Filter.member.1).
	flat bool
	// item is the element of a list in an answer.
	item string
	// result wraps the members of an answer in <OperationResult>.
	result       bool
	requestNames map[string]string
	answerNames  map[string]string
	answerName   func(field string) string

	plans sync.Map // reflect.Type -> []field
}

// The protocols of the services that the emulator answers for.
var (
	ELBv2 = &Protocol{
		namespace: "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
		item:      "member", result: true, answerName: sameName,
	}
	STS = &Protocol{
		namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
		item:      "member", result: true, answerName: sameName,
		requestNames: map[string]string{"PolicyDescriptorType.Arn": "arn"},
	}
	EC2 = &Protocol{
		namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
		item:      "item", flat: true, answerName: smallFirst,
		requestNames: ec2RequestNames, answerNames: ec2AnswerNames,
	}
)

// field is what the protocol knows of one field of an SDK struct.
type field struct {
	index   int
	request string
	answer  string
}

// fields lists the fields of a struct type that travel. Fields whose package path is set are private to
// the SDK, ResultMetadata is the SDK's own.
func (p *Protocol) fields(t reflect.Type) []field {
	if known, ok := p.plans.Load(t); ok {
		return known.([]field)
	}
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		if f.PkgPath != "" || f.Name == "ResultMetadata" {
			continue
		}
		one := field{index: i, request: f.Name, answer: p.answerName(f.Name)}
		if name, ok := p.requestNames[t.Name()+"."+f.Name]; ok {
			one.request = name
		}
		if name, ok := p.answerNames[t.Name()+"."+f.Name]; ok {
			one.answer = name
		}
		list = append(list, one)
	}
	known, _ := p.plans.LoadOrStore(t, list)
	return known.([]field)
}

func sameName(s string) string { return s }

func smallFirst(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[size:]
}
