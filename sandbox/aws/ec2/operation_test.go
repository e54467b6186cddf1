package ec2

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Whoever makes and deletes with ever new tokens must not fill the memory: only the newest tokens are remembered, and none is long.
func TestClientTokensAreForgotten(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	subnet := *s.privateSubnet("eu-west-1a").SubnetId
	create := func(token string) string {
		return *called(t, s, s.createNetworkInterface, &ec2.CreateNetworkInterfaceInput{SubnetId: &subnet, ClientToken: &token}).NetworkInterface.NetworkInterfaceId
	}
	oldest, newest := "", ""
	for i := range maxTokens + 5 {
		newest = create(fmt.Sprint("token-", i))
		if i == 0 {
			oldest = newest
		}
		called(t, s, s.deleteNetworkInterface, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &newest})
	}
	if n, m := len(s.tokens.answers), len(s.tokens.keys); n != maxTokens || m != maxTokens {
		t.Errorf("%d answers and %d tokens are remembered, want %d", n, m, maxTokens)
	}
	if again := create(fmt.Sprint("token-", maxTokens+4)); again != newest {
		t.Errorf("the newest token gets %s, and got %s before", again, newest)
	}
	if again := create("token-0"); again == oldest {
		t.Error("the oldest token is remembered still")
	}
	long := strings.Repeat("x", longestToken+1)
	_, err := change(s, s.createNetworkInterface, eventual.Reader{}, &ec2.CreateNetworkInterfaceInput{SubnetId: &subnet, ClientToken: &long})
	var refused *wire.Error
	if !errors.As(err, &refused) || refused.Code != "InvalidParameterValue" {
		t.Errorf("a token of %d characters: %v", len(long), err)
	}
}
