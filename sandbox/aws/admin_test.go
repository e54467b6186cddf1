package aws_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// A reader that is too slow is told so: a stream that just ended would look as if nothing were missing.
func TestASlowReaderOfTheJournalIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stream, err := http.Get(w.endpoint + "/_lockstep/journal?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	large := strings.Repeat("x", 4000)
	for range 15_000 { // more than wait for a reader, and than sockets hold
		w.emulator.Journal().Add(journal.Record{Event: "Test", Message: large})
	}
	if n, err := io.Copy(io.Discard, stream.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after %d bytes: %v", n, err)
	}
}

// The account's own cluster is no member that can be sent away: its nodes would go with it.
func TestTheOwnClusterCannotLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var host struct{ ID string }
	w.admin("POST", "hosts", `{"name":"shop","ports":{"80":"127.0.0.1:3000"}}`, 200, &host)
	w.admin("DELETE", "clusters/lockstep", "", 400, nil)
	if i, ok := w.emulator.EC2().InstanceByID(host.ID); !ok || !i.Address.IsValid() {
		t.Error("the host has lost its instance")
	}
}

// Programs take the lists of the admin API for lists when there is nothing in them, too.
func TestListsOfTheAdminAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"loadbalancers", "applied", "stats", "faults", "hosts"} {
		var got json.RawMessage
		if w.admin("GET", path, "", 200, &got); strings.TrimSpace(string(got)) != "[]" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// A service that is not there and is asked by paths is listed by what is asked of it, however many objects there are.
func TestUnknownServicesAreListedByWhatIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/shop/a/1", "/shop/a/2"} {
		request, err := http.NewRequest(http.MethodPut, w.endpoint+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+aws.DefaultAccessKeyID+"/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	if missing := w.emulator.NotModelled(); len(missing) != 1 || missing["s3:PUT /shop"] != 2 {
		t.Errorf("not modelled: %v", missing)
	}
}
