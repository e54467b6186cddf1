package aws

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/catalog"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/imds"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/sts"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/throttle"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// maxBody bounds a request, as AWS does at 1 MB for query services.
const maxBody = 1 << 20

// maxRecorded bounds the parameters of a call that the journal keeps.
const maxRecorded = 100

// call is one request on its way.
type call struct {
	request  *wire.Request
	record   journal.Record
	service  service
	name     string // of the service, as in the scope of signatures
	codec    wire.Codec
	message  wire.Message
	identity identity
	// principal is who the key in the identity belongs to.
	principal sts.Principal
}

// fault is the call as faults are told of it.
func (c *call) fault() fault.Call {
	service, operation := c.action()
	return fault.Call{
		Service: service, Operation: operation, AccessKey: c.identity.accessKey, UserAgent: c.record.UserAgent,
		Principal: c.principal.ARN, Dialect: c.codec.Dialect(), Parameters: c.record.Parameters,
	}
}

// action is the name of what is called, as policies and faults write it.
func (c *call) action() (service, operation string) {
	service = c.name
	if c.service.actions != "" {
		service = c.service.actions
	}
	return service, c.record.Operation
}

// ServeHTTP answers one AWS request, one to the metadata service, or one of the admin API.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	forAdmin := strings.HasPrefix(r.URL.Path, adminPath)
	if id, ok := asksForUserKey(r); ok && !forAdmin {
		e.serveUserKey(w, id)
		return
	}
	if forAdmin || imds.Serves(r.URL.Path) {
		switch err := guard(r); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusForbidden)
		case forAdmin:
			e.admin.ServeHTTP(w, r)
		default:
			e.serveMetadata(w, r)
		}
		return
	}
	c := &call{
		request: &wire.Request{Method: r.Method, URL: r.URL, Header: r.Header},
		record:  journal.Record{Received: time.Now(), UserAgent: r.UserAgent(), RequestID: e.ids.UUID("request", "")},
		codec:   wire.ELBv2, // until the service is known
	}
	response, err := e.answer(w, r, c)
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
	case err != nil:
		e.config.Log.Error("an AWS call broke the emulator", "operation", c.record.Operation, "error", err)
		refused = wire.Errorf("InternalFailure", "An internal error has occurred.").WithStatus(http.StatusInternalServerError)
	}
	if refused != nil {
		response = c.codec.Failure(c.record.RequestID, refused)
		c.record.Code, c.record.Message = refused.Code, refused.Message
		if c.service.codecs == nil {
			// Whoever speaks another protocol than the answer's finds the code here.
			w.Header().Set("X-Amzn-Errortype", refused.Code)
		}
	}
	c.record.Status = response.Status
	c.record.Duration = time.Since(c.record.Received)
	// The record comes before the answer: who has seen the answer finds it in the journal.
	e.journal.Add(c.record)
	c.turnAround(r.Context(), len(response.Body))
	for name, value := range response.Header {
		w.Header().Set(name, value)
	}
	w.Header().Set("x-amzn-RequestId", c.record.RequestID)
	w.WriteHeader(response.Status)
	_, _ = w.Write(response.Body)
}

// answer carries a request out as far as nothing refuses it.
func (e *Emulator) answer(w http.ResponseWriter, r *http.Request, c *call) (*wire.Response, error) {
	var err error
	if c.request.Body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return nil, wire.Errorf("RequestEntityTooLarge", "The request body cannot be read or is larger than %d bytes", maxBody).WithStatus(http.StatusRequestEntityTooLarge)
	}
	if err := e.read(r, c); err != nil {
		return nil, err
	}
	if err := e.authenticate(r, c); err != nil {
		return nil, err
	}
	return e.run(r, c)
}

// read finds service, operation and parameters.
func (e *Emulator) read(r *http.Request, c *call) error {
	c.identity = identify(r)
	c.record.AccessKey, c.record.Region = c.identity.accessKey, c.identity.region
	c.name, c.codec = e.addressee(c.request, c.identity.service)
	c.service = e.services[c.name]
	c.record.Service, _ = c.action()
	var err error
	c.message, err = c.codec.Read(c.request)
	if c.message != nil {
		c.record.Operation, c.record.Parameters = c.message.Operation(), recorded(c.message.Parameters())
	}
	var refused *wire.Error
	if errors.As(err, &refused) && refused.Code == "MalformedQueryString" {
		return err
	}
	if c.service.codecs == nil {
		if c.record.Operation == "" { // a service that is asked by paths, of which the first part says the most
			first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			c.record.Operation = r.Method + " /" + first
		}
		e.countMissing(c.record.Service + ":" + c.record.Operation)
		code := "NotImplemented"
		if c.name == unknownService {
			code = "InvalidAction"
		}
		return wire.Errorf(code, "The sandbox does not model service '%.40s'", c.name).WithStatus(http.StatusNotImplemented)
	}
	return err
}

// unaddressed are the protocols in which a request for no known service may be written.
var unaddressed = []wire.Codec{wire.ELBv2, wire.AnyJSON}

// classicVersion is that of the API of Classic Load Balancers, which has operations of the same names as ELBv2 and is signed for
// under the same name.
const classicVersion = "2012-06-01"

// unknownService is asked by requests that name none.
const unknownService = "unknown"

// addressee tells the service, and the protocol that is spoken to it, by the scope of the signature;
// else by the first service that understands the request.
func (e *Emulator) addressee(r *wire.Request, scope string) (name string, codec wire.Codec) {
	if wire.ELBv2.Speaks(r) && wire.ELBv2.Version(r) == classicVersion {
		return "elasticloadbalancing " + classicVersion, wire.ELBv2
	}
	if s, ok := e.services[scope]; ok {
		return scope, wire.Among(s.codecs, r)
	}
	if scope != "" {
		return scope, wire.Among(unaddressed, r)
	}
	for _, name := range slices.Sorted(maps.Keys(e.services)) {
		for _, codec := range e.services[name].codecs {
			if codec.Addressed(r) {
				return name, codec
			}
		}
	}
	return unknownService, wire.Among(unaddressed, r)
}

// missing tells apart what is not modelled from what AWS does not have either. What is addressed by a path and is not modelled
// has no name here ("GET /2013-04-01/healthcheck"); somebody who sends it has it from AWS.
func (c *call) missing(operation string) *wire.Error {
	if catalog.Has(c.name, operation) || strings.Contains(operation, " /") {
		return wire.Errorf("NotImplemented", "The sandbox does not model %s of service %s", operation, c.name).WithStatus(http.StatusNotImplemented)
	}
	return c.codec.Unknown(operation)
}

func (e *Emulator) countMissing(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name = strings.Clone(name[:min(len(name), 200)]) // names come from outside, and may be a part of a large request
	if _, known := e.missing[name]; known || len(e.missing) < 10_000 {
		e.missing[name]++
	}
}

// secret ends the names of the parameters whose values the journal does not show, of services that are not modelled as well.
var secret = regexp.MustCompile(`(^|\.)(ClientSecret|PrivateKey|WebIdentityToken|SAMLAssertion|TokenCode|UserData|SecretString|SecretBinary|Plaintext|Passphrase|\w*Password)$`)

// recorded are the parameters of a call that the journal keeps.
func recorded(all map[string]string) map[string]string {
	names := slices.Sorted(maps.Keys(all))
	kept := make(map[string]string, min(len(all), maxRecorded+1))
	if len(names) > maxRecorded {
		kept["..."] = fmt.Sprintf("%d parameters in all", len(all))
		names = names[:maxRecorded]
	}
	for _, name := range names {
		kept[name] = all[name]
		if secret.MatchString(name) {
			kept[name] = "(not shown)"
		}
	}
	return kept
}

// run lets faults, policies, buckets and the operation itself have their say, in this order.
func (e *Emulator) run(r *http.Request, c *call) (*wire.Response, error) {
	service, name := c.action()
	effect := e.faults.Strike(c.fault())
	if effect.Delay > 0 {
		select {
		case <-time.After(effect.Delay):
		case <-r.Context().Done():
			return nil, wire.Errorf("RequestTimeout", "The caller did not wait for the answer").WithStatus(http.StatusRequestTimeout)
		}
	}
	if effect.Error != nil {
		return nil, effect.Error
	}
	operation, ok := c.service.operations[name]
	if !ok {
		if err := e.authorize(c, nil); err != nil {
			return nil, err
		}
		e.countMissing(c.record.Service + ":" + name)
		return nil, c.missing(name)
	}
	input := operation.NewInput()
	unknown, malformed := c.message.Decode(input)
	if err := e.authorize(c, input); err != nil {
		return nil, err
	}
	if !e.config.Unthrottled {
		if refused := e.buckets.Take(throttle.Call{Service: service, Operation: name, Unfiltered: len(c.record.Parameters) == 0, Instances: instancesOf(input)}); refused != nil {
			return nil, refused
		}
	}
	if malformed != nil {
		return nil, malformed
	}
	if len(unknown) > 0 && c.service.strict {
		return nil, wire.Errorf("UnknownParameter", "The parameter %.80s is not recognized", unknown[0])
	}
	output, err := e.perform(c, func() (any, error) {
		return operation.Run(eventual.Reader{
			Caller: c.identity.accessKey + " " + c.record.UserAgent, AccessKey: c.identity.accessKey, Stale: effect.Stale,
		}, input)
	})
	if err != nil {
		return nil, err
	}
	if c.retagged() {
		e.tagging.Observe()
	}
	return c.codec.Answer(c.message, c.record.RequestID, output)
}
