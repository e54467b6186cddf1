package aws_test

import (
	"crypto/tls"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// Certificates that were imported are shown by server name, and HTTP/2 is agreed to until it is switched off.
func TestCertificatesAreShownByServerName(t *testing.T) {
	t.Parallel()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	w := newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic = vpc.Mapping, false })
	client := acm.NewFromConfig(w.config(owner))
	arns := map[string]*string{}
	for _, name := range []string{"a.example.com", "b.example.com"} {
		certificate, key := keyPair(t, name)
		arns[name] = must(client.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certificate, PrivateKey: key}))(w).CertificateArn
	}
	lb := *w.loadBalancer("web").LoadBalancerArn
	w.letIn(lb) // at port 80, where TLS can be spoken as well
	listener := must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixed("404"),
		Certificates: []types.Certificate{{CertificateArn: arns["a.example.com"]}},
	}))(w).Listeners[0].ListenerArn
	must(w.elb.AddListenerCertificates(ctx, &elb.AddListenerCertificatesInput{
		ListenerArn: listener, Certificates: []types.Certificate{{CertificateArn: arns["b.example.com"]}},
	}))(w)

	// shown is the name in the certificate, and the protocol that is agreed to.
	shown := func(at, name string) (string, string) {
		conn, err := tls.Dial("tcp", at, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			return err.Error(), ""
		}
		defer conn.Close()
		state := conn.ConnectionState()
		return state.PeerCertificates[0].DNSNames[0], state.NegotiatedProtocol
	}
	wantEverywhere := func(name, certificate, protocol string) {
		t.Helper()
		for _, node := range w.emulator.Endpoints()[0].Nodes {
			w.eventually(node.Zone+" shows "+certificate+" for "+name+" and speaks "+protocol, func() bool {
				gotName, gotProtocol := shown(node.Real[80].String(), name)
				return gotName == certificate && gotProtocol == protocol
			})
		}
	}
	w.eventually("a node listens", func() bool { return len(w.emulator.Endpoints()) > 0 && len(w.emulator.Endpoints()[0].Nodes) > 0 })
	wantEverywhere("a.example.com", "a.example.com", "h2")
	wantEverywhere("b.example.com", "b.example.com", "h2")
	wantEverywhere("c.example.com", "a.example.com", "h2")
	must(w.elb.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{
		LoadBalancerArn: &lb, Attributes: []types.LoadBalancerAttribute{{Key: new("routing.http2.enabled"), Value: new("false")}},
	}))(w)
	wantEverywhere("b.example.com", "b.example.com", "http/1.1")
}
