package aws

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/throttle"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// maxBody bounds a request, as AWS does at 1 MB for query services.
const maxBody = 1 << 20

// maxRecorded bounds the parameters of a call that the journal keeps.
const maxRecorded = 100

// call is one request on its way.
type call struct {
	record    journal.Record
	service   service
	name      string // of the service
	operation string
	form      url.Values
	identity  identity
}

// ServeHTTP answers one AWS request, or one of the admin API.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPath) {
		e.admin.ServeHTTP(w, r)
		return
	}
	c := &call{record: journal.Record{Received: time.Now(), UserAgent: r.UserAgent(), RequestID: e.ids.UUID("request", "")}}
	body, err := e.answer(w, r, c)
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
	case err != nil:
		e.config.Log.Error("an AWS call broke the emulator", "operation", c.operation, "error", err)
		refused = wire.Errorf("InternalFailure", "An internal error has occurred.").WithStatus(http.StatusInternalServerError)
	}
	status := http.StatusOK
	if refused != nil {
		status, body = refused.HTTPStatus(), c.protocol().Failure(c.record.RequestID, refused)
		c.record.Code, c.record.Message = refused.Code, refused.Message
	}
	c.record.Status = status
	c.record.Duration = time.Since(c.record.Received)
	// The record comes before the answer: who has seen the answer finds it in the journal.
	e.journal.Add(c.record)
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("x-amzn-RequestId", c.record.RequestID)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// protocol is that of the service, or query as long as the service is not known.
func (c *call) protocol() *wire.Protocol {
	if c.service.protocol == nil {
		return wire.ELBv2
	}
	return c.service.protocol
}

// answer carries a request out as far as nothing refuses it.
func (e *Emulator) answer(w http.ResponseWriter, r *http.Request, c *call) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, wire.Errorf("RequestEntityTooLarge", "The request body cannot be read or is larger than %d bytes", maxBody).WithStatus(http.StatusRequestEntityTooLarge)
	}
	if err := e.read(r, body, c); err != nil {
		return nil, err
	}
	if err := e.authenticate(r, body, c); err != nil {
		return nil, err
	}
	return e.run(r, c)
}

// read finds service, operation and parameters.
func (e *Emulator) read(r *http.Request, body []byte, c *call) error {
	c.identity = identify(r)
	c.record.AccessKey, c.record.Region = c.identity.accessKey, c.identity.region
	var malformed error
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		c.form, malformed = url.ParseQuery(r.URL.RawQuery)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		c.form, malformed = url.ParseQuery(string(body))
	}
	c.operation = c.form.Get("Action")
	c.name = e.serviceName(c)
	c.service = e.services[c.name]
	c.record.Service, c.record.Operation = c.name, c.operation
	c.record.Parameters = parameters(c.form)
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		c.record.Operation = target
	}
	switch {
	case malformed != nil:
		return wire.Errorf("MalformedQueryString", "The parameters cannot be read: %v", malformed).WithStatus(http.StatusNotFound)
	case c.service.protocol == nil:
		e.countMissing(c.name + ":" + c.record.Operation)
		return wire.Errorf("InvalidAction", "Service '%.40s' is not modelled", c.name).WithStatus(http.StatusNotImplemented)
	case c.operation == "":
		return wire.Errorf("MissingAction", "The request must name an Action")
	}
	return nil
}

// serviceName tells the service by the scope of the signature, else by the version of the API.
func (e *Emulator) serviceName(c *call) string {
	if c.identity.service != "" {
		return c.identity.service
	}
	for name, s := range e.services {
		if s.version == c.form.Get("Version") {
			return name
		}
	}
	return "unknown"
}

func (e *Emulator) countMissing(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.missing) < 10_000 { // names come from outside
		e.missing[name]++
	}
}

// parameters are what the journal keeps of a request.
func parameters(form url.Values) map[string]string {
	kept := map[string]string{}
	names := slices.Collect(maps.Keys(form))
	if len(names) > maxRecorded {
		slices.Sort(names)
	}
	for _, name := range names {
		if name == "Action" || name == "Version" {
			continue
		}
		if len(kept) == maxRecorded {
			kept["..."] = fmt.Sprintf("%d parameters in all", len(form))
			break
		}
		kept[name] = form.Get(name)
	}
	return kept
}

// run lets faults, buckets and the operation itself have their say, in this order.
func (e *Emulator) run(r *http.Request, c *call) ([]byte, error) {
	effect := e.faults.Strike(fault.Call{
		Service: c.name, Operation: c.operation, AccessKey: c.identity.accessKey, UserAgent: c.record.UserAgent, Principal: e.principal(),
	})
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
	operation, ok := c.service.operations[c.operation]
	if !ok {
		e.countMissing(c.name + ":" + c.operation)
		return nil, wire.Errorf("InvalidAction", "The action %.80s is not valid for this web service, or is not modelled", c.operation)
	}
	if !e.config.Unthrottled {
		if refused := e.buckets.Take(throttle.Call{Service: c.name, Operation: c.operation, Unfiltered: len(c.form) <= 2}); refused != nil {
			return nil, refused
		}
	}
	input := operation.NewInput()
	unknown, err := c.service.protocol.Decode(c.form, input)
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 && c.service.strict {
		return nil, wire.Errorf("UnknownParameter", "The parameter %.80s is not recognized", unknown[0])
	}
	output, err := operation.Run(eventual.Reader{Caller: c.identity.accessKey + " " + c.record.UserAgent, Stale: effect.Stale}, input)
	if err != nil {
		return nil, err
	}
	return c.service.protocol.Answer(c.operation, c.record.RequestID, output)
}
