package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
)

// form is a request of a query protocol.
type form struct {
	query  *Query
	values url.Values
}

// Speaks says whether the request is a form.
func (q *Query) Speaks(r *Request) bool {
	return r.Header.Get("X-Amz-Target") == "" && r.Header.Get("Smithy-Protocol") == ""
}

// Addressed says whether the request is a form with the version of the service's API.
func (q *Query) Addressed(r *Request) bool { return q.Speaks(r) && q.Version(r) == q.version }

// Version is the version of the API that a form asks for, empty if it names none.
func (q *Query) Version(r *Request) string {
	values, _ := r.form() // those before the error, if there is one
	return values.Get("Version")
}

// Presigned begins the parameters that are the signature of a URL, and no parameters of an operation.
const Presigned = "X-Amz-"

// form reads the parameters of the query string, or of the body.
func (r *Request) form() (url.Values, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		values, err := url.ParseQuery(r.URL.RawQuery)
		maps.DeleteFunc(values, func(name string, _ []string) bool { return strings.HasPrefix(name, Presigned) })
		return values, err
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		content, err := r.content()
		if err != nil {
			return nil, err
		}
		return url.ParseQuery(string(content))
	}
	return nil, nil
}

// Read reads the form.
func (q *Query) Read(r *Request) (Message, error) {
	values, err := r.form()
	m := form{q, values}
	switch {
	case err != nil:
		return m, Errorf("MalformedQueryString", "The parameters cannot be read: %v", err).WithStatus(http.StatusNotFound)
	case m.Operation() == "":
		return m, Errorf("MissingAction", "The request must name an Action")
	}
	return m, nil
}

// Operation is the parameter Action.
func (m form) Operation() string { return m.values.Get("Action") }

// Parameters are all but Action and Version.
func (m form) Parameters() map[string]string {
	all := map[string]string{}
	for name, values := range m.values {
		if name != "Action" && name != "Version" && len(values) > 0 {
			all[name] = values[0]
		}
	}
	return all
}

// Decode is Query.Decode of the form.
func (m form) Decode(into any) ([]string, error) { return m.query.Decode(m.values, into) }

// Dialect is that of EC2 or of the others.
func (q *Query) Dialect() Dialect {
	if q.flat {
		return EC2Dialect
	}
	return QueryDialect
}

// Unknown is InvalidAction.
func (q *Query) Unknown(operation string) *Error {
	return Errorf("InvalidAction", "The action %.80s is not valid for this web service, or is not modelled", operation)
}

// Answer writes <OperationResponse>.
func (q *Query) Answer(m Message, requestID string, output any) (*Response, error) {
	var out bytes.Buffer
	v := reflect.ValueOf(output).Elem()
	operation := m.Operation()
	fmt.Fprintf(&out, `<%sResponse xmlns="%s">`, operation, q.namespace)
	var err error
	if q.result {
		fmt.Fprintf(&out, "<%sResult>", operation)
		err = q.answer(&out, v)
		fmt.Fprintf(&out, "</%sResult><ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata>", operation, requestID)
	} else {
		fmt.Fprintf(&out, "<requestId>%s</requestId>", requestID)
		if len(q.fields(v.Type())) == 0 {
			out.WriteString("<return>true</return>")
		}
		err = q.answer(&out, v)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot answer %s: %w", operation, err)
	}
	fmt.Fprintf(&out, "</%sResponse>", operation)
	return xmlResponse(http.StatusOK, out.Bytes()), nil
}

// Failure writes <ErrorResponse>, or <Response><Errors> for EC2.
func (q *Query) Failure(requestID string, e *Error) *Response {
	if q.result {
		return xmlResponse(e.HTTPStatus(), q.errorResponse(requestID, e))
	}
	var out bytes.Buffer
	out.WriteString(`<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error>`)
	codeAndMessage(&out, e)
	fmt.Fprintf(&out, "</Error></Errors><RequestID>%s</RequestID></Response>", requestID)
	return xmlResponse(e.HTTPStatus(), out.Bytes())
}

// errorResponse is the form of errors that query and REST XML share.
func (m *markup) errorResponse(requestID string, e *Error) []byte {
	kind := "Sender"
	if e.HTTPStatus() >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<ErrorResponse xmlns="%s"><Error><Type>%s</Type>`, m.namespace, kind)
	codeAndMessage(&out, e)
	fmt.Fprintf(&out, "</Error><RequestId>%s</RequestId></ErrorResponse>", requestID)
	return out.Bytes()
}

func xmlResponse(status int, body []byte) *Response {
	return &Response{Status: status, Header: map[string]string{"Content-Type": "text/xml"}, Body: body}
}

// codeAndMessage cannot fail: a bytes.Buffer takes every write.
func codeAndMessage(out *bytes.Buffer, e *Error) {
	open(out, "Code")
	_ = xml.EscapeText(out, []byte(e.Code))
	closing(out, "Code")
	open(out, "Message")
	_ = xml.EscapeText(out, []byte(e.Message))
	closing(out, "Message")
}
