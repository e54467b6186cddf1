package dataplane

import (
	"io"
	"net/http"
	"testing"
)

func TestRewrites(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, r.Host+r.RequestURI) })
	w.healthyGroup("g", a.Target)
	forward := Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}
	w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: forward, Rules: []Rule{{
		Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/api/*"}}}, Action: forward,
		Rewrites: []Rewrite{
			{RewriteHost, `^shop-(.+)\.example\.com$`, "internal.$1.dev"},
			{RewriteURL, `^/api/(v\d)/([^?]*)`, "/$2s/$1x$$"},
		},
	}, {
		Priority: 2, Conditions: []Condition{{Field: PathPattern, Values: []string{"/bad"}}}, Action: forward,
		Rewrites: []Rewrite{{RewriteURL, `/`, "no slash"}},
	}}}}})
	for _, c := range []struct{ host, path, want string }{
		{"shop-eu.example.com", "/api/v2/item?id=1", "internal.eu.dev:8080/items/v2x$$?id=1"},
		{"shop-eu.example.com:8080", "/api/v2/item", "internal.eu.dev:8080/items/v2x$$"},
		{"other.example.com", "/api/none", "other.example.com:8080/api/none"},
		{"shop-eu.example.com", "/v2/item", "shop-eu.example.com:8080/v2/item"}, // another rule
	} {
		status, _, body := w.get(c.path, func(r *http.Request) { r.Host = c.host })
		if status != 200 || body != c.want {
			t.Errorf("%s%s: got %d %q, want %q", c.host, c.path, status, body, c.want)
		}
	}
	if status, header, _ := w.get("/bad"); status != 500 || header.Get("Server") != "awselb/2.0" {
		t.Errorf("a rewrite to what is no URL: got %d", status)
	}
}

func TestRegexConditions(t *testing.T) {
	for _, c := range []struct {
		condition Condition
		path      string
		adjust    func(*http.Request)
		want      bool
	}{
		{Condition{Field: PathPattern, Regexes: []string{`^/v[0-9]+/`}}, "/v12/x", nil, true},
		{Condition{Field: PathPattern, Regexes: []string{`^/v[0-9]+/`}}, "/V12/x", nil, false},
		{Condition{Field: PathPattern, Regexes: []string{`^/a$`}}, "/a?b", nil, true},
		{Condition{Field: HostHeader, Regexes: []string{`^(a|b)\.example\.com$`}}, "/", func(r *http.Request) { r.Host = "B.Example.com:80" }, true},
		{Condition{Field: HostHeader, Regexes: []string{`^(a|b)\.example\.com$`}}, "/", func(r *http.Request) { r.Host = "c.example.com" }, false},
		{Condition{Field: HTTPHeader, Name: "x-app", Regexes: []string{`beta-\d`}}, "/", func(r *http.Request) { r.Header.Set("X-App", "is Beta-7") }, true},
	} {
		compiled, err := compileCondition(c.condition)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest(http.MethodGet, "http://x"+c.path, nil)
		if c.adjust != nil {
			c.adjust(r)
		}
		s := newSubject(r, address())
		if got := compiled(&s); got != c.want {
			t.Errorf("%+v on %s: got %t", c.condition, c.path, got)
		}
	}
	if _, err := compileCondition(Condition{Field: PathPattern, Regexes: []string{`(`}}); err == nil {
		t.Error("an expression that does not parse is accepted")
	}
}
