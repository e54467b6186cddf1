package aws_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53 "github.com/aws/aws-sdk-go-v2/service/route53/types"
)

// A listener asks for a certificate, a pending certificate for records of Route 53, and an alias record for a load balancer: three services
// in a circle. None waits for another for ever.
func TestListenersCertificatesAndAliasesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := w.loadBalancer("web")
	names, manager := route53.NewFromConfig(w.config(owner)), acm.NewFromConfig(w.config(owner))
	zone := must(names.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: new("example.com"), CallerReference: new("1")}))(w).HostedZone.Id
	pending := must(manager.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("shop.example.com"), ValidationMethod: "DNS"}))(w).CertificateArn

	const rounds = 150
	refused, changed := make([]error, rounds), make([]error, rounds)
	var both sync.WaitGroup
	both.Go(func() {
		for i := range rounds {
			_, refused[i] = w.elb.CreateListener(ctx, &elb.CreateListenerInput{
				LoadBalancerArn: lb.LoadBalancerArn, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixed("200"), Certificates: []types.Certificate{{CertificateArn: pending}},
			})
		}
	})
	both.Go(func() {
		for i := range rounds {
			_, changed[i] = names.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: zone, ChangeBatch: &r53.ChangeBatch{Changes: []r53.Change{{
				Action: r53.ChangeActionUpsert, ResourceRecordSet: &r53.ResourceRecordSet{
					Name: new(fmt.Sprintf("a%d.example.com", i)), Type: r53.RRTypeA,
					AliasTarget: &r53.AliasTarget{DNSName: lb.DNSName, HostedZoneId: lb.CanonicalHostedZoneId},
				},
			}}}})
		}
	})
	done := make(chan struct{})
	go func() {
		both.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the services wait for each other")
	}
	for i := range rounds {
		w.wantCode(refused[i], "UnsupportedCertificate")
		if changed[i] != nil {
			t.Fatal(changed[i])
		}
	}
}
