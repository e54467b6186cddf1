package wire

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// REST is REST-XML: method and path say what is asked for, parameters are in the path, in the query
// string and in an XML document.
type REST struct {
	markup
	prefix string
	routes []route
}

// route is where the parts of one operation's request and answer are.
type route struct {
	operation, method string
	// path has segments in braces, which are fields of the input.
	path string
	// query are fields of the input by parameter.
	query map[string]string
	// status and header (fields of the output by name) of the answer; 0 stands for 200.
	status int
	header map[string]string
}

// Route53 is the service that speaks REST-XML.
var Route53 = &REST{
	prefix: "/2013-04-01/",
	markup: markup{
		namespace: "https://route53.amazonaws.com/doc/2013-04-01/", answerName: sameName,
		item: func(element reflect.Type, list string) string {
			switch {
			case element.Kind() == reflect.Struct:
				return element.Name()
			case list == "RemoveTagKeys":
				return "Key"
			}
			return strings.TrimSuffix(list, "s")
		},
	},
	routes: []route{
		{operation: "ListHostedZones", method: "GET", path: "hostedzone", query: map[string]string{
			"marker": "Marker", "maxitems": "MaxItems", "delegationsetid": "DelegationSetId", "hostedzonetype": "HostedZoneType"}},
		{operation: "CreateHostedZone", method: "POST", path: "hostedzone", status: http.StatusCreated, header: map[string]string{"Location": "Location"}},
		{operation: "GetHostedZone", method: "GET", path: "hostedzone/{Id}"},
		{operation: "DeleteHostedZone", method: "DELETE", path: "hostedzone/{Id}"},
		{operation: "UpdateHostedZoneComment", method: "POST", path: "hostedzone/{Id}"},
		{operation: "ListResourceRecordSets", method: "GET", path: "hostedzone/{HostedZoneId}/rrset", query: map[string]string{
			"name": "StartRecordName", "type": "StartRecordType", "identifier": "StartRecordIdentifier", "maxitems": "MaxItems"}},
		{operation: "ChangeResourceRecordSets", method: "POST", path: "hostedzone/{HostedZoneId}/rrset"},
		{operation: "GetChange", method: "GET", path: "change/{Id}"},
		{operation: "ListHostedZonesByName", method: "GET", path: "hostedzonesbyname", query: map[string]string{
			"dnsname": "DNSName", "hostedzoneid": "HostedZoneId", "maxitems": "MaxItems"}},
		{operation: "GetHostedZoneCount", method: "GET", path: "hostedzonecount"},
		{operation: "ListTagsForResource", method: "GET", path: "tags/{ResourceType}/{ResourceId}"},
		{operation: "ChangeTagsForResource", method: "POST", path: "tags/{ResourceType}/{ResourceId}"},
		{operation: "ListTagsForResources", method: "POST", path: "tags/{ResourceType}"},
	},
}

// element is a part of an XML document. A whole request is one too: what path and query string say
// stands beside the members of the document.
type element struct {
	name, text string
	used       bool
	children   []*element
	written    bytes.Buffer // the text while it is read
}

// exchange is a request that a route was found for.
type exchange struct {
	rest  *REST
	route route
	root  *element
	// missed names a request that no route was found for.
	missed string
}

// Speaks says whether the path is one of the service.
func (s *REST) Speaks(r *Request) bool { return strings.HasPrefix(r.URL.Path, s.prefix) }

// Addressed is as Speaks: no other service has such paths.
func (s *REST) Addressed(r *Request) bool { return s.Speaks(r) }

// Read finds the route. A path that no operation has is an operation that the service does not have.
func (s *REST) Read(r *Request) (Message, error) {
	m := exchange{rest: s, root: &element{}, missed: r.Method + " " + s.kind(r.URL.Path)}
	for _, one := range s.routes {
		if one.method == r.Method && m.root.follow(one.path, strings.TrimPrefix(r.URL.EscapedPath(), s.prefix)) {
			m.route, m.missed = one, ""
			break
		}
	}
	if m.missed != "" {
		return m, nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return m, Errorf("InvalidInput", "The query string cannot be read: %v", err)
	}
	for name, values := range query {
		if field, ok := m.route.query[name]; ok {
			m.root.children = append(m.root.children, &element{name: field, text: values[0]})
		}
	}
	content, err := r.content()
	if err == nil && len(bytes.TrimSpace(content)) > 0 {
		var document *element
		if document, err = parseXML(content); err == nil {
			m.root.children = append(m.root.children, document.children...)
		}
	}
	if err != nil {
		return m, Errorf("MalformedInput", "The document cannot be read: %v", err)
	}
	return m, nil
}

// kind is the path of a resource without the resource's id.
func (s *REST) kind(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, s.prefix), "/")
	return s.prefix + name
}

// follow matches a path (one slash more at its end does not matter) and takes the fields in it.
func (e *element) follow(pattern, path string) bool {
	segments, want := strings.Split(strings.TrimSuffix(path, "/"), "/"), strings.Split(pattern, "/")
	if len(segments) != len(want) {
		return false
	}
	var fields []*element
	for i, segment := range segments {
		field, ok := strings.CutPrefix(want[i], "{")
		value, err := url.PathUnescape(segment)
		switch {
		case err != nil || !ok && segment != want[i]:
			return false
		case ok:
			fields = append(fields, &element{name: strings.TrimSuffix(field, "}"), text: value})
		}
	}
	e.children = fields
	return true
}

// parseXML reads a document. Attributes and namespaces mean nothing in requests of AWS.
func parseXML(content []byte) (*element, error) {
	decoder := xml.NewDecoder(bytes.NewReader(content))
	root := &element{}
	open := []*element{root}
	for count := 0; ; count++ {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		at := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if len(open) > maxDepth || count > 4*maxParameters {
				return nil, errors.New("it is too deep or too large")
			}
			child := &element{name: t.Name.Local}
			at.children = append(at.children, child)
			open = append(open, child)
		case xml.EndElement:
			at.text, at.written = at.written.String(), bytes.Buffer{}
			open = open[:len(open)-1]
		case xml.CharData:
			at.written.Write(t)
		}
	}
	if len(root.children) != 1 {
		return nil, fmt.Errorf("it has %d root elements", len(root.children))
	}
	return root.children[0], nil
}

// Operation is that of the route, or method and path if there is none.
func (m exchange) Operation() string { return m.route.operation + m.missed }

// Parameters are the leaves of the request.
func (m exchange) Parameters() map[string]string {
	all := map[string]string{}
	m.root.flatten("", all)
	return all
}

func (e *element) flatten(path string, into map[string]string) {
	if len(into) >= maxLeaves {
		return
	}
	if len(e.children) == 0 && path != "" {
		into[path] = strings.TrimSpace(e.text)
	}
	counts := map[string]int{}
	for _, child := range e.children {
		if len(into) >= maxLeaves {
			return
		}
		name := join(path, clipped(child.name))
		if counts[child.name]++; counts[child.name] > 1 {
			name = fmt.Sprintf("%s.%d", name, counts[child.name])
		}
		child.flatten(name, into)
	}
}

// Decode fills an SDK struct from the request.
func (m exchange) Decode(into any) (unknown []string, err error) {
	if err := m.rest.decode(m.root, reflect.ValueOf(into).Elem(), ""); err != nil {
		return nil, err
	}
	unknown = m.root.unused("", nil)
	slices.Sort(unknown)
	return slices.Compact(unknown), nil
}

func (e *element) unused(path string, found []string) []string {
	if !e.used && len(e.children) == 0 && path != "" {
		found = append(found, path)
	}
	for _, child := range e.children {
		if len(found) >= maxLeaves {
			break
		}
		found = child.unused(join(path, clipped(child.name)), found)
	}
	return found
}

func (s *REST) decode(e *element, v reflect.Value, path string) error {
	e.used = true
	switch v.Kind() {
	case reflect.Pointer:
		target := reflect.New(v.Type().Elem())
		if err := s.decode(e, target.Elem(), path); err != nil {
			return err
		}
		v.Set(target)
		return nil
	case reflect.Slice:
		list := reflect.MakeSlice(v.Type(), len(e.children), len(e.children))
		for i, child := range e.children {
			if err := s.decode(child, list.Index(i), join(path, child.name)); err != nil {
				return err
			}
		}
		v.Set(list)
		return nil
	case reflect.Struct:
		if v.Type() != timeType {
			return s.decodeMembers(e, v, path)
		}
	}
	if err := parseScalar(v, strings.TrimSpace(e.text)); err != nil {
		return Errorf("InvalidInput", "%s: %.60q %v", path, e.text, err)
	}
	return nil
}

func (s *REST) decodeMembers(e *element, v reflect.Value, path string) error {
	fields := s.fields(v.Type())
	for _, child := range e.children {
		i := slices.IndexFunc(fields, func(f field) bool { return f.request == child.name })
		if i < 0 {
			continue
		}
		if err := s.decode(child, v.Field(fields[i].index), join(path, child.name)); err != nil {
			return err
		}
	}
	return nil
}

// Answer writes <OperationResponse>, and what belongs into headers there.
func (s *REST) Answer(m Message, _ string, output any) (*Response, error) {
	at, ok := m.(exchange)
	if !ok {
		return nil, fmt.Errorf("cannot answer %s: it was asked in another protocol", m.Operation())
	}
	v := reflect.New(reflect.TypeOf(output).Elem()).Elem()
	v.Set(reflect.ValueOf(output).Elem())
	status := at.route.status
	if status == 0 {
		status = http.StatusOK
	}
	header := map[string]string{}
	for name, of := range at.route.header {
		f := v.FieldByName(of)
		if !f.IsValid() {
			return nil, fmt.Errorf("cannot answer %s: a %s has no %s", at.route.operation, v.Type(), of)
		}
		if value, ok := f.Interface().(*string); ok && value != nil {
			header[name] = *value
		}
		f.SetZero()
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<%sResponse xmlns="%s">`, at.route.operation, s.namespace)
	if err := s.members(&out, v); err != nil {
		return nil, fmt.Errorf("cannot answer %s: %w", at.route.operation, err)
	}
	fmt.Fprintf(&out, "</%sResponse>", at.route.operation)
	response := xmlResponse(status, out.Bytes())
	for name, value := range header {
		response.Header[name] = value
	}
	return response, nil
}

// Failure writes <ErrorResponse>. (AWS's documentation shows a root element <InvalidChangeBatch> for that one error;
// what users of all SDKs report has the usual form.)
func (s *REST) Failure(requestID string, e *Error) *Response {
	return xmlResponse(e.HTTPStatus(), s.errorResponse(requestID, e))
}

// Unknown is InvalidAction with status 404.
func (s *REST) Unknown(operation string) *Error {
	return Errorf("InvalidAction", "%.120s is no operation of this web service, or is not modelled", operation).WithStatus(http.StatusNotFound)
}

// Dialect is QueryDialect.
func (s *REST) Dialect() Dialect { return QueryDialect }
