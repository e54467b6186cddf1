package aws_test

import (
	"net"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// Whoever starts serving in a goroutine may be overtaken by the end; the listener must not live on then.
func TestServingAfterTheEndEndsAtOnce(t *testing.T) {
	emulator, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 77}, WithoutTraffic: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := emulator.Close(); err != nil {
		t.Fatal(err)
	}
	if err := emulator.Serve(l); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
}
