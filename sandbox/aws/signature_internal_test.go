package aws

import (
	"net/http/httptest"
	"testing"
)

// Values of one name may come in any order: callers sign them sorted, and not all of them send them so.
func TestTheOrderOfValuesInAQueryDoesNotMatter(t *testing.T) {
	t.Parallel()
	id := identity{date: "20260101", region: "eu-west-1", service: "sts", signedHeaders: []string{"host"}, signedAt: "20260101T000000Z"}
	of := func(query string) string { return sign(httptest.NewRequest("GET", "/?"+query, nil), nil, id, "secret") }
	if of("b=1&a=2&a=1") != of("a=1&a=2&b=1") {
		t.Error("the signatures differ")
	}
	if of("a=1&a=2") == of("a=1&a=3") {
		t.Error("the signatures of different values are the same")
	}
}
