package app

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// scratch is the memory that one echo answer needs while it is written.
type scratch struct {
	body []byte
	keys []string
}

var scratches = sync.Pool{New: func() any { return &scratch{body: make([]byte, 0, 1024), keys: make([]string, 0, 16)} }}

// newEcho answers JSON that says who answers and what was asked. What stays the same is written once.
func newEcho(id Identity) func(http.ResponseWriter, *http.Request) {
	var head []byte
	head = append(head, '{')
	for _, field := range [][2]string{
		{"pod", id.Pod}, {"namespace", id.Namespace}, {"container", id.Container}, {"version", id.Version}, {"node", id.Node}, {"zone", id.Zone},
	} {
		head = appendField(head, field[0], field[1])
		head = append(head, ',')
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = jsonText
		s := scratches.Get().(*scratch)
		s.write(head, r)
		_, _ = w.Write(s.body)
		scratches.Put(s)
	}
}

func (s *scratch) write(head []byte, r *http.Request) {
	b := append(s.body[:0], head...)
	b = append(appendField(b, "method", r.Method), ',')
	b = append(appendField(b, "path", r.RequestURI), ',')
	b = append(appendField(b, "host", r.Host), ',')
	b = append(appendField(b, "proto", r.Proto), ',')
	b = append(appendField(b, "remoteAddr", r.RemoteAddr), `,"headers":{`...)
	s.keys = s.keys[:0]
	for k := range r.Header {
		s.keys = append(s.keys, k)
	}
	slices.Sort(s.keys)
	for i, k := range s.keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ":["...)
		for j, v := range r.Header[k] {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendString(b, v)
		}
		b = append(b, ']')
	}
	s.body = append(b, "}}\n"...)
}

func appendField(b []byte, name, value string) []byte {
	return appendString(append(appendString(b, name), ':'), value)
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string can always be marshalled
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// newColour answers as the rollouts demo does: its colour at /color, a page elsewhere.
func newColour(id Identity) func(http.ResponseWriter, *http.Request) {
	colour := id.Version[strings.LastIndexByte(id.Version, '-')+1:]
	short := []byte(`"` + colour + `"`)
	page := []byte("<!doctype html><title>" + colour + `</title><body style="background:` + colour + `"><h1>` + id.Pod + "</h1>\n")
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/color" {
			w.Header()["Content-Type"] = plainText
			_, _ = w.Write(short)
			return
		}
		w.Header()["Content-Type"] = htmlText
		_, _ = w.Write(page)
	}
}
