package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// JSON is AWS JSON 1.0 and 1.1: the operation is in the header X-Amz-Target, the parameters are a
// document with the names of the Go fields, times are seconds.
type JSON struct {
	version string
	// target is what X-Amz-Target says before the dot.
	target string
	// compatible are the codes of a service that spoke query before: clients that send the header
	// X-Amzn-Query-Mode get its codes of old too.
	compatible *compatible
}

// The services that speak JSON. AnyJSON stands for those that nobody models.
var (
	ACM               = &JSON{version: "1.1", target: "CertificateManager"}
	WAFv2             = &JSON{version: "1.1", target: "AWSWAF_20190729"}
	WAFRegional       = &JSON{version: "1.1", target: "AWSWAF_Regional_20161128"}
	Shield            = &JSON{version: "1.1", target: "AWSShield_20160616"}
	Tagging           = &JSON{version: "1.1", target: "ResourceGroupsTaggingAPI_20170126"}
	GlobalAccelerator = &JSON{version: "1.1", target: "GlobalAccelerator_V20180706"}
	CloudWatchJSON    = &JSON{version: "1.0", target: cloudWatchService, compatible: &cloudWatchCodes}
	AnyJSON           = &JSON{version: "1.1"}
)

// Speaks says whether the request names its operation in a header.
func (j *JSON) Speaks(r *Request) bool { return r.Header.Get("X-Amz-Target") != "" }

// Addressed says whether the operation is one of the service.
func (j *JSON) Addressed(r *Request) bool {
	return j.target != "" && strings.HasPrefix(r.Header.Get("X-Amz-Target"), j.target+".")
}

// Read reads the document. An operation of another service keeps its full name, which this one does not
// have.
func (j *JSON) Read(r *Request) (Message, error) {
	target := r.Header.Get("X-Amz-Target")
	name, ok := strings.CutPrefix(target, j.target+".")
	m := document{operation: name}
	switch {
	case target == "":
		return m, Errorf("MissingAction", "The request must name an operation in the header X-Amz-Target")
	case !ok:
		m.operation = target
		return m, nil
	}
	content, err := r.content()
	if err == nil && len(bytes.TrimSpace(content)) > 0 {
		m.tree, err = parseJSON(content)
	}
	if err != nil {
		return m, Errorf("SerializationException", "The document cannot be read: %v", err)
	}
	return m, nil
}

// Bounds on a document. A value takes some bytes to write and many times as much to keep.
const (
	maxNesting = 64
	maxValues  = 500_000
)

// fits looks through a document before anything of it is kept.
func fits(content []byte) error {
	depth, values, quoted := 0, 0, false
	for i := 0; i < len(content); i++ {
		switch c := content[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
			values++
		case c == ']' || c == '}':
			depth--
		case c == ',':
			values++
		}
		if depth > maxNesting || values > maxValues {
			return fmt.Errorf("it is nested deeper than %d levels or has more than %d values", maxNesting, maxValues)
		}
	}
	return nil
}

func parseJSON(content []byte) (tree any, err error) {
	if err := fits(content); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind the document")
	}
	return tree, nil
}

// Answer writes the document of the output.
func (j *JSON) Answer(m Message, _ string, output any) (*Response, error) {
	tree, err := grow(reflect.ValueOf(output))
	if err != nil {
		return nil, fmt.Errorf("cannot answer %s: %w", m.Operation(), err)
	}
	return j.response(http.StatusOK, tree)
}

// Failure tells of an error in the member __type and in a header.
func (j *JSON) Failure(_ string, e *Error) *Response {
	response, err := j.response(e.HTTPStatus(), map[string]any{"__type": j.compatible.shape(e.Code), "message": e.Message, "Message": e.Message})
	if err != nil {
		return &Response{Status: http.StatusInternalServerError}
	}
	response.Header["x-amzn-ErrorType"] = j.compatible.shape(e.Code)
	j.compatible.header(response, e)
	return response
}

func (j *JSON) response(status int, tree any) (*Response, error) {
	body, err := json.Marshal(jsonValue(tree))
	if err != nil {
		return nil, err
	}
	return &Response{Status: status, Header: map[string]string{"Content-Type": "application/x-amz-json-" + j.version}, Body: body}, nil
}

// jsonValue replaces what encoding/json would write in another way than AWS.
func jsonValue(tree any) any {
	switch x := tree.(type) {
	case map[string]any:
		for name, member := range x {
			x[name] = jsonValue(member)
		}
	case []any:
		for i, element := range x {
			x[i] = jsonValue(element)
		}
	case time.Time:
		return json.Number(strconv.FormatFloat(float64(x.UnixMilli())/1000, 'f', -1, 64))
	case float64:
		switch {
		case math.IsNaN(x):
			return "NaN"
		case math.IsInf(x, 1):
			return "Infinity"
		case math.IsInf(x, -1):
			return "-Infinity"
		}
	}
	return tree
}

// Unknown is UnknownOperationException.
func (j *JSON) Unknown(operation string) *Error {
	return Errorf("UnknownOperationException", "The operation %.80s is not known, or is not modelled", operation)
}

// Dialect is JSONDialect.
func (j *JSON) Dialect() Dialect { return JSONDialect }

// compatible are the codes of a service that spoke query before it spoke JSON or CBOR.
type compatible struct {
	namespace string
	// shapes are the names of today by code, where they differ.
	shapes map[string]string
}

func (c *compatible) shape(code string) string {
	if c == nil {
		return code
	}
	if shape, ok := c.shapes[code]; ok {
		code = shape
	}
	return c.namespace + "#" + code
}

// header tells the code of old.
func (c *compatible) header(r *Response, e *Error) {
	if c == nil {
		return
	}
	fault := "Sender"
	if e.HTTPStatus() >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	r.Header["x-amzn-query-error"] = e.Code + ";" + fault
}
