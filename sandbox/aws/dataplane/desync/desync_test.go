package desync_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/desync"
)

func TestClasses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		head   string
		class  desync.Class
		reason string
		status int
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", desync.Compliant, "", 0},
		{"GET / HTTP/1.0\r\n\r\n", desync.Compliant, "", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", desync.Compliant, "", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", desync.Compliant, "", 0},
		{"GET / HTTP/1.1\r\nHost: x\r\nX-Name: caf\xc3\xa9\r\n\r\n", desync.Acceptable, "NonCompliantHeader", 0},
		{"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", desync.Acceptable, "SpaceInUri", 0},
		{"GET / HTTP/1.3\r\nHost: x\r\n\r\n", desync.Acceptable, "NonCompliantVersion", 0},
		{"GET /\r\n", desync.Acceptable, "NonCompliantVersion", 0},
		{"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", desync.Acceptable, "GetHeadZeroContentLength", 0},
		{"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", desync.Ambiguous, "AmbiguousUri", 0},
		{"GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", desync.Ambiguous, "EmptyHeader", 0},
		{"GET / HTTP/1.1\r\nHost: x\r\n  \r\nX: y\r\n\r\n", desync.Ambiguous, "EmptyHeader", 0},
		{"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", desync.Ambiguous, "UndefinedContentLengthSemantics", 0},
		{"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", desync.Ambiguous, "UndefinedTransferEncodingSemantics", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\ncontent-length: 4\r\n\r\n", desync.Ambiguous, "DuplicateContentLength", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", desync.Ambiguous, "BothTeClPresent", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n\r\n", desync.Ambiguous, "SuspiciousHeader", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", desync.Ambiguous, "SuspiciousHeader", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding : chunked\r\n\r\n", desync.Severe, "SuspiciousTeClPresent", 0},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", desync.Severe, "MultipleContentLength", 400},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\n", desync.Severe, "BadContentLength", 400},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", desync.Severe, "BadTransferEncoding", 400},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", desync.Severe, "MultipleTransferEncodingChunked", 400},
		{"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", desync.Severe, "BadTransferEncoding", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", desync.Severe, "BadHeader", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", desync.Severe, "BadHeader", 400},
		{"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", desync.Severe, "BadUri", 400},
		{"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", desync.Severe, "BadMethod", 400},
		{"GET / http/1.1\r\nHost: x\r\n\r\n", desync.Severe, "BadVersion", 400},
		{"GET / HTTP/1.1\r\n\r\n", desync.Compliant, "", 400},
		{"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", desync.Severe, "BadUri", 400},
		{"GET / HTTP/2.0\r\nHost: x\r\n\r\n", desync.Acceptable, "NonCompliantVersion", 505},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", desync.Compliant, "", 501},
		{"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\n", desync.Compliant, "", 0},
		{"GET /" + strings.Repeat("x", desync.LineLimit) + " HTTP/1.1\r\nHost: x\r\n\r\n", desync.Compliant, "", 414},
		{"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", desync.HeaderLimit) + "\r\n\r\n", desync.Compliant, "", 400},
		{"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: "+strings.Repeat("x", 15<<10)+"\r\n", 5) + "\r\n", desync.Compliant, "", 400},
	} {
		if end := desync.End([]byte(tt.head)); end != len(tt.head) {
			t.Errorf("%.60q ends at %d", tt.head, end)
		}
		h := desync.Parse([]byte(tt.head))
		if h.Class != tt.class || h.Reason != tt.reason || h.Status != tt.status {
			t.Errorf("%.90q: got class %d %s, status %d", tt.head, h.Class, h.Reason, h.Status)
		}
	}
}

// FuzzHead: what Parse lets in, net/http reads as one request with the same length of the body, and finds nothing to refuse.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\n", "GET /a b HTTP/1.9 \r\nHost: x\r\nHost: y\r\n:\r\nX Y: z\r\nExpect: 100-continue\r\n\r\n",
		"POST http://h/%41 HTTP/1.0\nContent-Length: 1\nContent-Length: 1\n\n", "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
		"CONNECT a:1 HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		end := desync.End(sent)
		if end == 0 {
			return
		}
		h := desync.Parse(sent[:end])
		if h.Status != 0 {
			return
		}
		r := bufio.NewReader(bytes.NewReader(h.Clean))
		request, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("%q became %q: %v", sent[:end], h.Clean, err)
		}
		if r.Buffered() != 0 {
			t.Fatalf("%q became %q, of which %d bytes are left", sent[:end], h.Clean, r.Buffered())
		}
		if request.ContentLength != h.Length {
			t.Fatalf("%q: a body of %d, net/http says %d", sent[:end], h.Length, request.ContentLength)
		}
		if request.Header.Get("Expect") != "" {
			t.Fatalf("%q: it still expects something", sent[:end])
		}
	})
}

// FuzzBody: a body ends where net/http finds its end, or earlier because it makes no sense.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		"4\r\nbody\r\n0\r\n\r\nGET", "4;x=y\r\nbody\r\n0\r\nA: b\r\n\r\n", "0\n\n", "5 \r\nab", "\r\n", "1\r\nx\r\n00\r\nA:\n\r\n\r\n", "ffffffffffffffff\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		b := desync.NewBody(desync.Chunked)
		n, ok := b.Take(sent)
		if b.Ended() && !ok {
			t.Fatalf("%q has ended and makes no sense", sent)
		}
		pieces, all := desync.NewBody(desync.Chunked), 0 // in pieces it is the same
		for i := range sent {
			one, fine := pieces.Take(sent[i : i+1])
			all += one
			if !fine || one == 0 {
				break
			}
		}
		if all != n {
			t.Fatalf("%q: %d bytes at once, %d one by one", sent, n, all)
		}
		source := bytes.NewReader(sent)
		r := bufio.NewReader(io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), source))
		request, err := http.ReadRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, request.Body)
		if taken := len(sent) - source.Len() - r.Buffered(); err == nil && b.Ended() && taken != n {
			t.Fatalf("%q ends at %d, for net/http at %d", sent, n, taken)
		}
		if err == nil && !b.Ended() && ok {
			t.Fatalf("%q has ended for net/http only", sent)
		}
	})
}

// BenchmarkParse is what the inspection of an ordinary request costs:
//
//	go test -bench Parse -run XXX ./sandbox/aws/dataplane/desync
func BenchmarkParse(b *testing.B) {
	head := []byte("GET /cart/items?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nCookie: a=b; c=d\r\nX-Request-Id: 0123456789abcdef\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if desync.End(head) != len(head) || desync.Parse(head).Class != desync.Compliant {
			b.Fatal("not an ordinary request")
		}
	}
}
