package dataplane

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// seenBy asks through a node with the given attributes and returns the request as the target got it.
func seenBy(t *testing.T, attributes Attributes, adjust func(*http.Request)) *http.Request {
	t.Helper()
	w := newWorld(t)
	a := w.serve("a")
	seen := make(chan *http.Request, 1)
	a.on(func(_ http.ResponseWriter, r *http.Request) { seen <- r })
	w.healthyGroup("g", a.Target)
	w.apply(NodeConfig{Attributes: attributes, Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}}})
	if status, _, body := w.get("/path?query=1", adjust); status != 200 {
		t.Fatalf("got %d %s", status, body)
	}
	return <-seen
}

func TestHeadersAdded(t *testing.T) {
	r := seenBy(t, Attributes{}, func(r *http.Request) {
		r.Host = "shop.example.com"
		r.Header.Set("X-Forwarded-Proto", "https") // a lie
		r.Header.Set("X-Mine", "kept")
	})
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "8080", "X-Mine": "kept",
	} {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := r.Header.Get("X-Amzn-Trace-Id"); !regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24}$`).MatchString(got) {
		t.Errorf("trace %q", got)
	}
	if r.Host != "shop.example.com:8080" || r.RequestURI != "/path?query=1" {
		t.Errorf("host %q, URI %q", r.Host, r.RequestURI)
	}
	if r.Header.Get("User-Agent") != "Go-http-client/1.1" {
		t.Errorf("user agent %q", r.Header.Get("User-Agent"))
	}
}

func TestForwardedForModes(t *testing.T) {
	for _, c := range []struct {
		name       string
		attributes Attributes
		before     string
		want       string
	}{
		{"append", Attributes{}, "1.2.3.4", "^1.2.3.4, 127.0.0.1$"},
		{"append-port", Attributes{ForwardedClientPort: true}, "", `^127\.0\.0\.1:\d+$`},
		{"preserve", Attributes{ForwardedFor: ForwardedForPreserve, ForwardedClientPort: true}, "1.2.3.4", "^1.2.3.4$"},
		{"preserve-absent", Attributes{ForwardedFor: ForwardedForPreserve}, "", "^$"},
		{"remove", Attributes{ForwardedFor: ForwardedForRemove}, "1.2.3.4", "^$"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := seenBy(t, c.attributes, func(r *http.Request) {
				if c.before != "" {
					r.Header.Set("X-Forwarded-For", c.before)
				}
			})
			if got := r.Header.Get("X-Forwarded-For"); !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("got %q", got)
			}
			if r.Header.Get("X-Forwarded-Port") != "8080" {
				t.Error("the mode changed X-Forwarded-Port")
			}
		})
	}
}

func TestTraceIsContinued(t *testing.T) {
	for before, want := range map[string]string{
		"":                        "Root=ID",
		"Root=1-a-b":              "Self=ID;Root=1-a-b",
		"Self=1-x-y;Root=1-a-b":   "Self=ID;Root=1-a-b",
		"Root=1-a-b;CalledFrom=x": "Self=ID;Root=1-a-b;CalledFrom=x",
		"CalledFrom=x":            "Root=ID;CalledFrom=x",
	} {
		if got := continueTrace(before, "ID"); got != want {
			t.Errorf("%q: got %q, want %q", before, got, want)
		}
	}
}

func TestHopByHopHeadersEndHere(t *testing.T) {
	r := seenBy(t, Attributes{}, func(r *http.Request) {
		r.Header.Set("Connection", "keep-alive, X-Secret")
		r.Header.Set("X-Secret", "1")
		r.Header.Set("Keep-Alive", "timeout=5")
		r.Header.Set("Te", "trailers")
		r.Header.Set("Proxy-Connection", "x")
	})
	for _, name := range []string{"Connection", "X-Secret", "Keep-Alive", "Te", "Proxy-Connection"} {
		if got := r.Header.Get(name); got != "" {
			t.Errorf("%s arrived: %q", name, got)
		}
	}
}

func TestPreserveHostAndInvalidHeaders(t *testing.T) {
	r := seenBy(t, Attributes{PreserveHost: true, DropInvalidHeaders: true}, func(r *http.Request) {
		r.Host = "shop.example.com"
		r.Header["X_Underscore"] = []string{"1"}
		r.Header["X-Fine"] = []string{"1"}
	})
	if r.Host != "shop.example.com" || r.Header["X_underscore"] != nil || r.Header["X-Fine"] == nil {
		t.Errorf("host %q, headers %v", r.Host, r.Header)
	}
	r = seenBy(t, Attributes{}, func(r *http.Request) { r.Header["X_Underscore"] = []string{"1"} })
	if r.Header["X_underscore"] == nil {
		t.Errorf("dropped by default: %v", r.Header)
	}
	for preserve, want := range map[bool]string{false: "shop.example.com:8080", true: "Shop.Example.COM"} {
		if r := seenBy(t, Attributes{PreserveHost: preserve}, func(r *http.Request) { r.Host = "Shop.Example.COM" }); r.Host != want {
			t.Errorf("preserve %v: the target saw host %q, want %q", preserve, r.Host, want)
		}
	}
}

// TestHeadersOfTheNodeAreNotForgedInStrangeWriting: a space before the colon makes no header of it for this node, and does for a careless target.
func TestHeadersOfTheNodeAreNotForgedInStrangeWriting(t *testing.T) {
	w := newWorld(t)
	seen := make(chan string, 1)
	w.healthyGroup("g", w.raw(func(conn net.Conn) {
		head := ""
		for r := bufio.NewReader(conn); !strings.HasSuffix(head, "\r\n\r\n"); {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		if !strings.Contains(head, "/healthz") {
			seen <- head
		}
	}))
	w.forwarding(only("g"))
	w.say("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-forwarded-for : forged\r\nX-AMZN-OIDC-Identity\t: forged\r\nhost : forged\r\nTransfer-Encoding : chunked\r\nx y : kept\r\n\r\n")
	if head := <-seen; strings.Contains(head, "forged") || strings.Contains(head, "chunked") || !strings.Contains(head, "\r\nx y : kept\r\n") {
		t.Errorf("the target got %q", head)
	}
}

// TestBodies sends bodies of many sizes both ways, framed by length and in chunks.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		rw.Header().Set("X-Framing", fmt.Sprint(r.ContentLength, r.TransferEncoding))
		if r.URL.Query().Has("length") {
			rw.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		_, _ = rw.Write(body)
	})
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 100, 4096, 33_000, 1 << 20} {
		body := make([]byte, size)
		_, _ = random.Read(body)
		for _, c := range []struct {
			path    string
			chunked bool
		}{{"/", false}, {"/?length", false}, {"/", true}, {"/?length", true}} {
			var reader io.Reader = bytes.NewReader(body)
			framing := fmt.Sprint(size, []string(nil))
			if c.chunked {
				reader = io.MultiReader(reader) // hides the length
				framing = fmt.Sprint(-1, []string{"chunked"})
			}
			r, err := http.NewRequest(http.MethodPost, w.url(c.path), reader)
			if err != nil {
				t.Fatal(err)
			}
			status, header, got := w.do(r)
			if status != 200 || got != string(body) || header.Get("X-Framing") != framing {
				t.Errorf("%d bytes to %s, chunked %v: %d, %d bytes back, framing %s", size, c.path, c.chunked, status, len(got), header.Get("X-Framing"))
			}
		}
	}
	for _, s := range w.node.Stats().Targets {
		if s.Usage.Status[2] != 24 || s.Usage.Requests != 24 || s.Usage.BrokenResponses != 0 {
			t.Errorf("counted %+v", s.Usage)
		}
	}
}

func TestHeadAndNoContent(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			rw.WriteHeader(http.StatusNoContent)
			return
		}
		rw.Header().Set("Content-Length", "1234")
	})
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	for range 3 { // the connections stay usable
		if status, header, _ := w.get("/", func(r *http.Request) { r.Method = http.MethodHead }); status != 200 || header.Get("Content-Length") != "1234" {
			t.Fatalf("HEAD: %d %v", status, header)
		}
		if status, header, _ := w.get("/", func(r *http.Request) { r.Method = http.MethodDelete }); status != 204 || header.Get("Content-Length") != "" {
			t.Fatalf("DELETE: %d %v", status, header)
		}
	}
}

func TestResponseHeadersPassAsTheyAre(t *testing.T) {
	w := newWorld(t)
	target := w.raw(passing(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 418 Odd\r\nServer: mine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\n<html")
	}))
	w.healthyGroup("g", target)
	w.forwarding(only("g"))
	status, header, body := w.get("/")
	if status != 418 || body != "<html" || header.Get("Server") != "mine" || !slices.Equal(header.Values("Set-Cookie"), []string{"a=1", "b=2"}) {
		t.Errorf("got %d %q %v", status, body, header)
	}
	if header.Get("X-Hop") != "" || header["Content-Type"] != nil {
		t.Errorf("not as the target sent it: %v", header)
	}
}

func TestExpectContinueIsAnsweredByTheNode(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(rw, "%s %q", body, r.Header.Get("Expect"))
	})
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	conn, err := net.Dial("tcp", w.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	r := bufio.NewReader(conn)
	if line, _ := r.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("got %q", line)
	}
	_, _ = r.ReadString('\n')
	_, _ = io.WriteString(conn, "body")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != `body ""` {
		t.Fatalf("got %s", body)
	}
}

func TestStreamIsNotHeldBack(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	next := make(chan struct{})
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			_, _ = fmt.Fprint(rw, i)
			_ = http.NewResponseController(rw).Flush()
			<-next
		}
	})
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	res, err := w.client.Get(w.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 3 {
		got := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != fmt.Sprint(i) {
			t.Fatalf("got %q, %v", got, err)
		}
		next <- struct{}{}
	}
}

func TestClientKeepAliveEnds(t *testing.T) {
	w := newWorld(t)
	w.apply(NodeConfig{
		Attributes: Attributes{ClientKeepAlive: time.Nanosecond},
		Listeners:  []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Fixed: &FixedResponse{Status: 200}}}},
	})
	res, err := w.client.Get(w.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if !res.Close {
		t.Fatal("the connection stays open")
	}
}

func TestTrailersPass(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	seen := make(chan http.Header, 1)
	a.on(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(rw, r.Body)
		_ = http.NewResponseController(rw).Flush() // in chunks, which a trailer needs
		seen <- r.Trailer
		rw.Header().Set(http.TrailerPrefix+"X-Sum", "2")
	})
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	got := w.say("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n3\r\nabc\r\n0\r\nX-Check: 1\r\nX-Forwarded-For: forged\r\n\r\n")
	if !strings.HasSuffix(got, "\r\n0\r\nX-Sum: 2\r\n\r\n") {
		t.Errorf("the client got %q", got)
	}
	if h := <-seen; h.Get("X-Check") != "1" || h.Get("X-Forwarded-For") != "" {
		t.Errorf("the target got %v", h)
	}
}
