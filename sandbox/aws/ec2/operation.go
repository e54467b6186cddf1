package ec2

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// errDryRun answers a request that only asks whether it would be carried out.
var errDryRun = wire.Errorf("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").WithStatus(http.StatusPreconditionFailed)

// reading makes an operation of a function that only looks. It locks by itself.
func reading[I, O any](run func(eventual.Reader, *I) (*O, error)) wire.Operation[eventual.Reader] {
	return wire.Of(func(r eventual.Reader, in *I) (*O, error) {
		out, err := run(r, in)
		if err == nil && dryRun(in) {
			return nil, errDryRun
		}
		return out, err
	})
}

// changing makes an operation of a function that checks a request and returns what carries it out. So no request leaves half of its work,
// and a dry run is the check alone.
func changing[I, O any](s *Service, prepare func(eventual.Reader, *I) (func() *O, error)) wire.Operation[eventual.Reader] {
	return wire.Of(func(r eventual.Reader, in *I) (*O, error) { return change(s, prepare, r, in) })
}

func change[I, O any](s *Service, prepare func(eventual.Reader, *I) (func() *O, error), r eventual.Reader, in *I) (*O, error) {
	out, err := func() (*O, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		token, err := tokenOf(in)
		if err != nil {
			return nil, err
		}
		if earlier, known := s.tokens.answers[token.key]; token.key != "" && known {
			if earlier.request != token.request {
				return nil, wire.Errorf("IdempotentParameterMismatch", "The client token was used before with other parameters")
			}
			return earlier.answer.(*O), nil
		}
		carryOut, err := prepare(r, in)
		if err != nil {
			return nil, err
		}
		if dryRun(in) {
			return nil, errDryRun
		}
		out := carryOut()
		if token.key != "" {
			s.tokens.note(token.key, answered{token.request, out})
		}
		return out, nil
	}()
	s.announce()
	return out, err
}

// tokens are the client tokens of requests and what these have got, as long as they are remembered.
type tokens struct {
	answers map[string]answered
	keys    []string // the oldest first
}

// maxTokens is how many client tokens are remembered. AWS forgets them by time.
const maxTokens = 10_000

func newTokens() tokens { return tokens{answers: map[string]answered{}} }

func (t *tokens) note(key string, a answered) {
	if len(t.keys) >= maxTokens {
		delete(t.answers, t.keys[0])
		t.keys = slices.Delete(t.keys, 0, 1)
	}
	t.answers[key] = a
	t.keys = append(t.keys, key)
}

// answered is what a request with a client token has got. The same request with the same token gets it again.
type answered struct {
	request digest
	answer  any
}

// digest stands for a request, which can be large.
type digest [sha256.Size]byte

// longestToken is AWS's limit on client tokens.
const longestToken = 64

type token struct {
	key     string
	request digest
}

// tokenOf is the client token of a request with the operation that it is for, and what it asks apart from that.
func tokenOf(in any) (token, error) {
	v := reflect.ValueOf(in).Elem()
	field := v.FieldByName("ClientToken")
	if !field.IsValid() || field.IsNil() || field.Elem().String() == "" {
		return token{}, nil
	}
	if field.Elem().Len() > longestToken {
		return token{}, invalidValue("The client token has %d characters, more than %d", field.Elem().Len(), longestToken)
	}
	text, err := json.Marshal(in)
	if err != nil { // an input is made of texts, numbers and lists of them
		text = fmt.Append(nil, in)
	}
	return token{v.Type().Name() + "/" + field.Elem().String(), sha256.Sum256(text)}, nil
}

func dryRun(in any) bool {
	field := reflect.ValueOf(in).Elem().FieldByName("DryRun")
	return field.IsValid() && !field.IsNil() && field.Elem().Bool()
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// optional is nil for the zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// changed is a copy of a resource with a change.
func changed[T any](resource *T, change func(*T)) *T {
	c := *resource
	change(&c)
	return &c
}
