package aws_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// Operations that nobody models are counted, whatever callers name them, without their names filling the memory; and those that are counted
// go on being counted when there are too many.
func TestNamesOfUnknownOperationsAreBounded(t *testing.T) {
	t.Parallel()
	emulator, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 79}, WithoutTraffic: true, Unthrottled: true, Anonymous: true, JournalSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = emulator.Close() })
	call := func(operation string) {
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
		request.Header.Set("X-Amz-Target", "CertificateManager."+operation)
		emulator.ServeHTTP(httptest.NewRecorder(), request)
	}
	call("First")
	call(strings.Repeat("n", 100_000))
	for i := range 10_100 {
		call(fmt.Sprint("Operation", i))
	}
	call("First")
	missing := emulator.NotModelled()
	if len(missing) != 10_000 || missing["acm:First"] != 2 {
		t.Errorf("%d names are counted, the first one %d times", len(missing), missing["acm:First"])
	}
	for name := range missing {
		if len(name) > 200 {
			t.Errorf("a name of %d bytes is kept", len(name))
		}
	}
}
