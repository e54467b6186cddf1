package wire

import (
	"reflect"
	"strings"
)

// Operation is one operation of a service. R is what a handler is told of the caller.
type Operation[R any] struct {
	Name string
	// NewInput makes an empty input struct of the SDK, for Decode.
	NewInput func() any
	// Run carries the operation out on such a struct. Its error is an *Error.
	Run func(caller R, input any) (output any, err error)
}

// Of makes an operation of a function from input to output. Its name is that of the input type:
// *elasticloadbalancingv2.CreateRuleInput makes CreateRule.
func Of[R, I, O any](run func(R, *I) (*O, error)) Operation[R] {
	return Operation[R]{
		Name:     strings.TrimSuffix(reflect.TypeFor[I]().Name(), "Input"),
		NewInput: func() any { return new(I) },
		Run:      func(caller R, input any) (any, error) { return run(caller, input.(*I)) },
	}
}

// Operations is a service's operations by name.
type Operations[R any] map[string]Operation[R]

// NewOperations collects operations.
func NewOperations[R any](all ...Operation[R]) Operations[R] {
	byName := make(Operations[R], len(all))
	for _, o := range all {
		byName[o.Name] = o
	}
	return byName
}
