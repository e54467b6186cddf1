package aws_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// A browser reaches loopback for whatever page it shows. Neither a page of another origin, nor one whose name has been made to lead here, nor
// another machine gets at what needs no signature.
func TestWebPagesAndOtherMachinesAreKeptOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *aws.Config) { c.Anonymous = true })
	const local = "127.0.0.1:4566"
	const unsigned = "/?Action=DescribeLoadBalancers&Version=2015-12-01"
	for _, tt := range []struct {
		why, method, path, host, from string
		header                        map[string]string
		refused                       bool
	}{
		{"a program", "POST", "/_lockstep/faults", local, "127.0.0.1:1", nil, false},
		{"a program that uses a name", "GET", "/_lockstep/faults", "LocalHost:4566", "127.0.0.1:1", nil, false},
		{"a program over IPv6", "GET", "/_lockstep/faults", "[::1]:4566", "[::1]:1", nil, false},
		{"another machine", "GET", "/_lockstep/faults", local, "192.0.2.1:1", nil, true},
		{"a form of another site", "POST", "/_lockstep/reset", local, "127.0.0.1:1", map[string]string{"Sec-Fetch-Site": "cross-site"}, true},
		{"another port of this machine", "POST", "/_lockstep/reset", local, "127.0.0.1:1", map[string]string{"Sec-Fetch-Site": "same-site"}, true},
		{"an old browser", "POST", "/_lockstep/reset", local, "127.0.0.1:1", map[string]string{"Origin": "https://shop.example"}, true},
		{"a sandboxed frame", "POST", "/_lockstep/reset", local, "127.0.0.1:1", map[string]string{"Origin": "null"}, true},
		{"a name that leads here", "GET", "/_lockstep/journal", "shop.example:4566", "127.0.0.1:1", nil, true},
		{"a name that leads here, posting", "POST", "/_lockstep/reset", "shop.example:4566", "127.0.0.1:1", map[string]string{"Origin": "http://shop.example:4566"}, true},
		{"an address typed into the browser", "GET", "/_lockstep/counts", local, "127.0.0.1:1", map[string]string{"Sec-Fetch-Site": "none"}, false},
		{"keys for a name that leads here", "GET", "/v2/credentials/any", "shop.example:4566", "127.0.0.1:1", nil, true},
		{"keys for a program", "GET", "/v2/credentials/any", local, "127.0.0.1:1", nil, false},
		{"an unsigned call of a page", "GET", unsigned, local, "127.0.0.1:1", map[string]string{"Sec-Fetch-Site": "cross-site"}, true},
		{"an unsigned call that a page gives half a signature", "GET", unsigned + "&X-Amz-Algorithm=x", local, "127.0.0.1:1", map[string]string{"Sec-Fetch-Site": "cross-site"}, true},
		{"an unsigned call of a program", "GET", unsigned, local, "127.0.0.1:1", nil, false},
	} {
		body := ""
		if strings.HasSuffix(tt.path, "/faults") && tt.method == "POST" {
			body = `{"kind":"throttle","operations":["ec2:RunInstances"]}`
		}
		request := httptest.NewRequest(tt.method, tt.path, strings.NewReader(body))
		request.Host, request.RemoteAddr = tt.host, tt.from
		for name, value := range tt.header {
			request.Header.Set(name, value)
		}
		answer := httptest.NewRecorder()
		w.emulator.ServeHTTP(answer, request)
		if refused := answer.Code == http.StatusForbidden; refused != tt.refused || !refused && answer.Code != http.StatusOK {
			t.Errorf("%s: %d %s", tt.why, answer.Code, answer.Body)
		}
	}
}
