package wire

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Request is an HTTP request whose body has been read.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte
}

// maxContent bounds a body that was sent compressed.
const maxContent = 8 << 20

// content is the body, unpacked if it was sent compressed, as PutMetricData is.
func (r *Request) content() ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return r.Body, nil
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("the body is not compressed with gzip: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(unpacked, maxContent+1))
	if err == nil && len(content) > maxContent {
		err = fmt.Errorf("the body is larger than %d bytes when it is unpacked", maxContent)
	}
	return content, err
}

// Message is a request as far as its protocol understands it without knowing the operation's types.
type Message interface {
	// Operation is the name of what is asked for; it may be one that the service does not have.
	Operation() string
	// Parameters are what is said of it, flattened to dotted names, for people to read.
	Parameters() map[string]string
	// Decode fills an SDK input struct (into points to it). It returns the names of parameters that the
	// struct does not have, sorted, for the caller to refuse or to ignore as its service does. Its
	// errors are *Error.
	Decode(into any) (unknown []string, err error)
}

// Response is what goes back to the caller.
type Response struct {
	Status int
	Header map[string]string
	Body   []byte
}

// Dialect says in which codes a service speaks of keys, signatures and permissions.
type Dialect int

// The dialects.
const (
	QueryDialect Dialect = iota // ELBv2, STS, Route 53 and CloudWatch as of old
	EC2Dialect
	JSONDialect
)

// Codec is one protocol with the names of one service.
type Codec interface {
	// Speaks says whether a request is written in the protocol.
	Speaks(*Request) bool
	// Addressed says whether a request can only be for the service, whoever signed it.
	Addressed(*Request) bool
	// Read finds the operation and its parameters. Its errors are *Error.
	Read(*Request) (Message, error)
	// Answer writes the answer to a message: output points to the SDK's output struct. Absent (nil)
	// members leave nothing, an empty list leaves an empty one.
	Answer(m Message, requestID string, output any) (*Response, error)
	// Failure writes the answer that tells of an error.
	Failure(requestID string, e *Error) *Response
	// Unknown is the error for an operation that the service does not have.
	Unknown(operation string) *Error
	Dialect() Dialect
}

// Among is the codec that a request is written in, the first if there is none.
func Among(codecs []Codec, r *Request) Codec {
	for _, c := range codecs {
		if c.Speaks(r) {
			return c
		}
	}
	return codecs[0]
}
