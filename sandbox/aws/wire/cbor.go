package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
)

const cloudWatchService = "GraniteServiceVersion20100801"

var cloudWatchCodes = compatible{namespace: "com.amazonaws.cloudwatch", shapes: map[string]string{
	"InvalidParameterValue":       "InvalidParameterValueException",
	"InvalidParameterCombination": "InvalidParameterCombinationException",
	"MissingParameter":            "MissingRequiredParameterException",
}}

// RPC is Smithy RPC v2 with CBOR: the operation is in the path, the parameters are a document with the
// names of the Go fields.
type RPC struct {
	service    string
	compatible *compatible
}

// CloudWatchRPC is what CloudWatch speaks with today's SDKs.
var CloudWatchRPC = &RPC{service: cloudWatchService, compatible: &cloudWatchCodes}

// Speaks says whether the request says so.
func (p *RPC) Speaks(r *Request) bool { return r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor" }

// Addressed says whether the path names the service.
func (p *RPC) Addressed(r *Request) bool {
	return p.Speaks(r) && strings.HasPrefix(r.URL.Path, "/service/"+p.service+"/")
}

// Read reads the document.
func (p *RPC) Read(r *Request) (Message, error) {
	name, ok := strings.CutPrefix(r.URL.Path, "/service/"+p.service+"/operation/")
	m := document{operation: name}
	if !ok {
		m.operation = r.URL.Path
		return m, nil
	}
	content, err := r.content()
	if err == nil && len(content) > 0 {
		m.tree, err = parseCBOR(content)
	}
	if err != nil {
		return m, Errorf("SerializationException", "The document cannot be read: %v", err)
	}
	return m, nil
}

func parseCBOR(content []byte) (any, error) {
	reader := cborReader{rest: content}
	tree, err := reader.item(0)
	if err == nil && len(reader.rest) > 0 {
		err = fmt.Errorf("%d bytes are behind the document", len(reader.rest))
	}
	return tree, err
}

// Answer writes the document of the output.
func (p *RPC) Answer(m Message, _ string, output any) (*Response, error) {
	tree, err := grow(reflect.ValueOf(output))
	if err != nil {
		return nil, fmt.Errorf("cannot answer %s: %w", m.Operation(), err)
	}
	return p.response(http.StatusOK, tree), nil
}

// Failure tells of an error in the member __type, and of its code of old in a header.
func (p *RPC) Failure(_ string, e *Error) *Response {
	response := p.response(e.HTTPStatus(), map[string]any{"__type": p.compatible.shape(e.Code), "message": e.Message})
	p.compatible.header(response, e)
	return response
}

func (p *RPC) response(status int, tree any) *Response {
	return &Response{
		Status: status, Header: map[string]string{"Content-Type": "application/cbor", "Smithy-Protocol": "rpc-v2-cbor"},
		Body: appendCBOR(nil, tree),
	}
}

// Unknown is UnknownOperationException.
func (p *RPC) Unknown(operation string) *Error {
	return Errorf("UnknownOperationException", "The operation %.80s is not known, or is not modelled", operation).WithStatus(http.StatusNotFound)
}

// Dialect is JSONDialect: the codes are the same.
func (p *RPC) Dialect() Dialect { return JSONDialect }

// The major types of RFC 8949.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborList
	cborMap
	cborTag
	cborSimple
)

// appendCBOR writes a tree. Times are seconds with tag 1; maps are sorted by key.
func appendCBOR(out []byte, tree any) []byte {
	switch x := tree.(type) {
	case bool:
		if x {
			return append(out, cborSimple<<5|21)
		}
		return append(out, cborSimple<<5|20)
	case int64:
		if x < 0 {
			return appendHead(out, cborNegative, uint64(^x))
		}
		return appendHead(out, cborUint, uint64(x))
	case float64:
		return binary.BigEndian.AppendUint64(append(out, cborSimple<<5|27), math.Float64bits(x))
	case string:
		return append(appendHead(out, cborText, uint64(len(x))), x...)
	case []byte:
		return append(appendHead(out, cborBytes, uint64(len(x))), x...)
	case time.Time:
		return appendCBOR(appendHead(out, cborTag, 1), float64(x.UnixMilli())/1000)
	case []any:
		out = appendHead(out, cborList, uint64(len(x)))
		for _, element := range x {
			out = appendCBOR(out, element)
		}
		return out
	case map[string]any:
		out = appendHead(out, cborMap, uint64(len(x)))
		for _, name := range slices.Sorted(maps.Keys(x)) {
			out = appendCBOR(appendCBOR(out, name), x[name])
		}
		return out
	}
	return append(out, cborSimple<<5|22) // null
}

func appendHead(out []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(out, major|byte(n))
	case n <= math.MaxUint8:
		return append(out, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(out, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(out, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(out, major|27), n)
}

// cborReader reads a tree from bytes of whom nobody knows where they come from.
type cborReader struct {
	rest   []byte
	values int
}

// indefinite stands for a length that is not told.
const indefinite = 31

var (
	errShort = errors.New("it ends too early")
	errBreak = errors.New("a break is out of place")
)

// head reads the first byte of an item and its number; info is 31 for a length that is not told.
func (r *cborReader) head() (major, info byte, n uint64, err error) {
	if len(r.rest) == 0 {
		return 0, 0, 0, errShort
	}
	major, info = r.rest[0]>>5, r.rest[0]&31
	r.rest = r.rest[1:]
	if info < 24 || info == indefinite {
		return major, info, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, 0, fmt.Errorf("additional information %d is reserved", info)
	}
	raw, err := r.take(1 << (info - 24))
	for _, b := range raw {
		n = n<<8 | uint64(b)
	}
	return major, info, n, err
}

func (r *cborReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.rest)) {
		return nil, errShort
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken, nil
}

func (r *cborReader) item(depth int) (any, error) {
	if r.values++; depth > maxNesting || r.values > maxValues {
		return nil, fmt.Errorf("it is nested deeper than %d levels or has more than %d values", maxNesting, maxValues)
	}
	major, info, n, err := r.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case cborUint, cborNegative:
		if n > math.MaxInt64 || info == indefinite {
			return nil, errors.New("an integer is out of range")
		}
		if major == cborNegative {
			return ^int64(n), nil
		}
		return int64(n), nil
	case cborBytes, cborText:
		return r.text(major, info, n)
	case cborList:
		return r.list(info, n, depth)
	case cborMap:
		return r.members(info, n, depth)
	case cborTag:
		return r.tagged(n, depth)
	}
	return simple(info, n)
}

// text reads bytes or text, in one piece or in several.
func (r *cborReader) text(major, info byte, n uint64) (any, error) {
	var all []byte
	var err error
	if info == indefinite {
		all, err = r.pieces(major)
	} else {
		all, err = r.take(n)
	}
	if err != nil {
		return nil, err
	}
	if major == cborBytes {
		return all, nil
	}
	return string(all), nil
}

func (r *cborReader) pieces(major byte) ([]byte, error) {
	all := []byte{}
	for !r.broken() {
		m, info, n, err := r.head()
		if err != nil {
			return nil, err
		}
		if m != major || info == indefinite {
			return nil, errors.New("a string has a piece of another kind")
		}
		piece, err := r.take(n)
		if err != nil {
			return nil, err
		}
		all = append(all, piece...)
	}
	return all, nil
}

// broken takes the break that ends an item of untold length.
func (r *cborReader) broken() bool {
	if len(r.rest) > 0 && r.rest[0] == 0xff {
		r.rest = r.rest[1:]
		return true
	}
	return false
}

func (r *cborReader) list(info byte, n uint64, depth int) (any, error) {
	list := []any{}
	for i := uint64(0); info == indefinite || i < n; i++ {
		if info == indefinite && r.broken() {
			break
		}
		element, err := r.item(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}

func (r *cborReader) members(info byte, n uint64, depth int) (any, error) {
	members := map[string]any{}
	for i := uint64(0); info == indefinite || i < n; i++ {
		if info == indefinite && r.broken() {
			break
		}
		key, err := r.item(depth + 1)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("the key of a map is a %T", key)
		}
		if members[name], err = r.item(depth + 1); err != nil {
			return nil, err
		}
	}
	return members, nil
}

func (r *cborReader) tagged(tag uint64, depth int) (any, error) {
	content, err := r.item(depth + 1)
	if err != nil || tag != 1 {
		return content, err
	}
	seconds, ok := number(content)
	if !ok || math.IsNaN(seconds) || math.Abs(seconds) > 253_402_300_799 {
		return nil, fmt.Errorf("%v is no time", content)
	}
	return epoch(seconds), nil
}

// simple is a boolean, null or a float.
func simple(info byte, n uint64) (any, error) {
	switch info {
	case 20, 21:
		return info == 21, nil
	case 22, 23:
		return nil, nil
	case 25:
		return half(uint16(n)), nil
	case 26:
		return float64(math.Float32frombits(uint32(n))), nil
	case 27:
		return math.Float64frombits(n), nil
	case indefinite:
		return nil, errBreak
	}
	return nil, fmt.Errorf("simple value %d has no meaning", n)
}

// half is a float of 16 bits: 1 of sign, 5 of exponent, 10 of mantissa.
func half(bits uint16) float64 {
	exponent, mantissa := int(bits>>10&31), float64(bits&1023)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		f = math.Inf(1)
		if mantissa != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(mantissa+1024, exponent-25)
	}
	if bits>>15 == 1 {
		return -f
	}
	return f
}
