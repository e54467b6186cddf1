package witness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithymiddleware "github.com/aws/smithy-go/middleware"
)

// names are those of services in boto3 and the AWS CLI.
var names = map[string]string{"Elastic Load Balancing v2": "elbv2", "EC2": "ec2"}

// Record is what witnesses have seen.
type Record struct {
	t         *testing.T
	witnesses []*Witness
	// asking lets one refusal be seen at a time.
	asking sync.Mutex
	// seen are the operations and codes that a witness was refused with, or what it lacks to be.
	seen map[sight]string
	// codes are those that a slow witness has seen, with what all of them lack until one has.
	codes map[string]string
}

type sight struct {
	by              *Witness
	operation, code string
}

// New makes an empty record. At the end of the test it tells what witnesses lack.
func New(t *testing.T, witnesses ...[]*Witness) *Record {
	r := &Record{t: t, witnesses: slices.Concat(witnesses...), seen: map[sight]string{}, codes: map[string]string{}}
	t.Cleanup(r.tell)
	return r
}

// Watch lets the witnesses repeat each call of an SDK's client that is refused, before the client's caller hears of it. The
// test fails where they are refused with another code, message, status or class of error than the client.
func (r *Record) Watch(stack *smithymiddleware.Stack) error {
	return stack.Initialize.Add(smithymiddleware.InitializeMiddlewareFunc("Witnesses", func(
		ctx context.Context, in smithymiddleware.InitializeInput, next smithymiddleware.InitializeHandler,
	) (smithymiddleware.InitializeOutput, smithymiddleware.Metadata, error) {
		out, metadata, err := next.HandleInitialize(ctx, in)
		if refused, ok := refusal(middleware.GetOperationName(ctx), err); ok {
			r.ask(refused, call{
				Service: names[middleware.GetServiceID(ctx)], Operation: refused.Operation, Class: refused.Class, Input: given(reflect.ValueOf(in.Parameters)),
			})
		}
		return out, metadata, err
	}), smithymiddleware.After)
}

// refusal takes apart the error of a call that was answered.
func refusal(operation string, err error) (Refusal, bool) {
	var api smithy.APIError
	var response *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &response) {
		return Refusal{}, false
	}
	r := Refusal{Operation: operation, Code: api.ErrorCode(), Message: api.ErrorMessage(), Status: response.HTTPStatusCode()}
	if _, generic := api.(*smithy.GenericAPIError); !generic {
		r.Class = reflect.TypeOf(api).Elem().Name()
	}
	return r, true
}

// given is what an input says, by the names of AWS's model: its fields that are set.
func given(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return given(v.Elem())
	case reflect.Struct:
		fields := map[string]any{}
		for f, value := range v.Fields() {
			if f.IsExported() && !value.IsZero() {
				fields[f.Name] = given(value)
			}
		}
		return fields
	case reflect.Slice:
		list := []any{}
		for _, each := range v.Seq2() {
			list = append(list, given(each))
		}
		return list
	default:
		return v.Interface()
	}
}

func (r *Record) ask(refused Refusal, c call) {
	r.asking.Lock()
	defer r.asking.Unlock()
	for _, w := range r.witnesses {
		if lacks, asked := r.codes[refused.Code]; w.slow && asked && lacks == "" {
			continue
		}
		got, err := w.repeat(c)
		if err != nil {
			r.t.Errorf("%s: %s: %s: %v: %s", refused.Operation, refused.Code, w.name, err, &w.wrong)
			continue
		}
		if w.slow {
			r.codes[refused.Code] = got.Lacks
		}
		r.seen[sight{w, refused.Operation, refused.Code}] = got.Lacks
		if got.Lacks != "" {
			continue
		}
		if err := w.check(refused, got); err != nil {
			r.t.Errorf("%s: %s: %s: %v", refused.Operation, refused.Code, w.name, err)
		}
	}
}

// Check fails a test in which an operation should have been refused with a code before all witnesses.
func (r *Record) Check(t *testing.T, operation, code string) {
	t.Helper()
	for _, w := range r.witnesses {
		_, seen := r.seen[sight{w, operation, code}]
		if _, once := r.codes[code]; !seen && !(w.slow && once) {
			t.Errorf("%s has not been asked", w.name)
		}
	}
}

// tell logs what was seen, and what not because a witness is too old for it.
func (r *Record) tell() {
	r.asking.Lock()
	defer r.asking.Unlock()
	for _, w := range r.witnesses {
		n, lacks := 0, map[string]bool{}
		for s, lack := range r.seen {
			switch {
			case s.by == w && lack == "":
				n++
			case s.by == w && !w.slow:
				lacks[fmt.Sprintf("%s/%s (%s)", s.operation, s.code, lack)] = true
			}
		}
		r.t.Logf("%s was refused by %d pairs of operation and code", w.name, n)
		if len(lacks) > 0 {
			r.t.Logf("SKIPPED: %s lacks something for %d: %s", w.name, len(lacks), strings.Join(slices.Sorted(maps.Keys(lacks)), ", "))
		}
	}
	maps.DeleteFunc(r.codes, func(_, lacks string) bool { return lacks == "" })
	if len(r.codes) > 0 {
		r.t.Logf("SKIPPED: no installed AWS CLI knows an operation with: %s", strings.Join(slices.Sorted(maps.Keys(r.codes)), ", "))
	}
}
