package plan

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

func TestPatternsMeet(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{"/a", "/a", true}, {"/a", "/b", false}, {"/a", "/a/b", false}, {"/*", "/a", true}, {"*", "", true}, {"", "", true}, {"", "a", false},
		{"/a/*", "/a", false}, {"/a*", "/a", true}, {"/*/cart", "/shop/*", true}, {"*a", "*b", false}, {"a*", "b*", false}, {"a*b", "*a*", true},
		{"?", "ab", false}, {"a?", "?b", true}, {"?*", "", false}, {"*.shop.example", "www.*", true},
	} {
		if got := patternsMeet(row.a, row.b); got != row.want {
			t.Errorf("%q and %q meet: %t", row.a, row.b, got)
		}
		if got := patternsMeet(row.b, row.a); got != row.want {
			t.Errorf("%q and %q meet: %t", row.b, row.a, got)
		}
	}
}

// Text that matches both patterns is found by trying: then they must meet, and where one holds for the other, text
// that matches the narrower one must match the wider one.
func TestPatternsAgreeWithMatching(t *testing.T) {
	pattern := rapid.StringMatching(`[ab*?]{0,5}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := pattern.Draw(t, "a"), pattern.Draw(t, "b")
		text := rapid.StringMatching(`[ab]{0,6}`).Draw(t, "text")
		inA, inB := matches(a, text), matches(b, text)
		if inA && inB && !patternsMeet(a, b) {
			t.Fatalf("%q matches %q and %q, which do not meet", text, a, b)
		}
		if patternHolds(a, b) && inB && !inA {
			t.Fatalf("%q is said to hold for %q, and %q is in the second only", a, b, text)
		}
	})
}

// Whoever may write an Ingress writes the patterns: no two of them may keep the controller busy.
func TestPatternsOfManyStarsAreComparedSoon(t *testing.T) {
	stars, text := strings.Repeat("a*", 60)+"b", strings.Repeat("a", 128)
	compared := make(chan bool, 1)
	go func() { compared <- patternHolds(stars, text) || patternsMeet(stars, text) }()
	select {
	case either := <-compared:
		if either {
			t.Errorf("a text of a's ends in b")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("two patterns of 128 characters are not compared in 20 s")
	}
}

func matches(pattern, text string) bool {
	expression := strings.NewReplacer("*", ".*", "?", ".").Replace(pattern)
	return regexp.MustCompile("^(?:" + expression + ")$").MatchString(text)
}

func condition(field string, values ...string) model.Condition {
	return model.Condition{Field: field, Values: values}
}

func TestHeirs(t *testing.T) {
	rule := func(id string, priority int32, conditions ...model.Condition) model.Rule {
		return model.Rule{ResourceID: id, Priority: priority, Conditions: conditions}
	}
	header := model.Condition{Field: "http-header", HeaderName: "X-New", Values: []string{"1"}}
	present := &model.ObservedRule{}
	for _, row := range []struct {
		name  string
		live  []model.Condition
		pairs []pair
		want  string
	}{
		{"another host", []model.Condition{condition("host-header", "a.example"), condition("path-pattern", "/*")},
			[]pair{{wanted: rule("b", 1, condition("host-header", "B.example"), condition("path-pattern", "/*"))}}, ""},
		{"the same host in other letters", []model.Condition{condition("host-header", "a.example")}, []pair{{wanted: rule("a", 1, condition("host-header", "A.Example"))}}, "a"},
		{"other networks", []model.Condition{condition("source-ip", "10.0.0.0/8")}, []pair{{wanted: rule("n", 1, condition("source-ip", "192.168.0.0/16"))}}, ""},
		{"other methods", []model.Condition{condition("http-request-method", "GET")}, []pair{{wanted: rule("m", 1, condition("http-request-method", "POST", "PUT"))}}, ""},
		{"headers are never known to differ", []model.Condition{{Field: "http-header", HeaderName: "X-New", Values: []string{"0"}}}, []pair{{wanted: rule("h", 1, header)}}, "h"},
		{"a rule that is in place is no heir", []model.Condition{condition("path-pattern", "/a")}, []pair{{wanted: rule("all", 1, condition("path-pattern", "/*")), have: present}}, ""},
		{"what an earlier rule takes, a later one does not", []model.Condition{condition("path-pattern", "/a")}, []pair{
			{wanted: rule("a", 1, condition("path-pattern", "/a"), header)}, {wanted: rule("all", 2, condition("path-pattern", "/*"), header)}}, "a"},
		{"but what it leaves", []model.Condition{condition("path-pattern", "/a*")}, []pair{
			{wanted: rule("a", 1, condition("path-pattern", "/a"), header)}, {wanted: rule("all", 2, condition("path-pattern", "/*"), header)}}, "a all"},
	} {
		if got := strings.Join(heirs(model.ObservedRule{Rule: model.Rule{Conditions: row.live}}, row.pairs), " "); got != row.want {
			t.Errorf("%s: heirs %q, want %q", row.name, got, row.want)
		}
	}
}
