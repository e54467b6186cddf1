package app

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Connections of HTTP/2 end with the process as others do: idle ones when it stops, all when it is killed.
func TestHTTP2Ends(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*Process)
		want string
	}{
		{"SIGTERM", (*Process).Terminate, "0"},
		{"SIGKILL", (*Process).Kill, "137"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, Behaviour{})
			conn, err := net.Dial("tcp4", r.at.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
			transport.Protocols.SetUnencryptedHTTP2(true)
			defer transport.CloseIdleConnections()
			request, err := http.NewRequest(http.MethodGet, "http://"+r.at.String()+"/readyz", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := transport.RoundTrip(request)
			if err != nil || response.ProtoMajor != 2 || response.StatusCode != http.StatusOK {
				t.Fatalf("%+v, %v", response, err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			c.end(r.Process)
			r.awaitExit(t, c.want)
		})
	}
}

// A connection of HTTP/2 whose client does not go away, whatever it is told, is cut when the process is killed.
func TestHTTP2IsCut(t *testing.T) {
	r := start(t, Behaviour{})
	conn, err := net.Dial("tcp4", r.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const empty = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // a frame of settings
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+empty); err != nil {
		t.Fatal(err)
	}
	b := bufio.NewReader(conn)
	if _, err := b.ReadByte(); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, b); err != nil {
		if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
			t.Errorf("the connection outlives the process: %v", err)
		}
	}
}
