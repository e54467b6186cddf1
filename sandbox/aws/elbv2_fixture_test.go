package aws_test

import (
	"net/http"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
)

// A certificate of a private authority is issued at once: the shortest way to an HTTPS listener, in a fixture too.
func TestAFixtureWithACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.admin("POST", "reset", `
calls:
- as: certificate
  service: acm
  operation: RequestCertificate
  input: {DomainName: shop.example.com, CertificateAuthorityArn: "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/11111111-1111-1111-1111-111111111111"}
- as: web
  service: elbv2
  operation: CreateLoadBalancer
  input: {Name: web, Subnets: ["${subnet.public.a}", "${subnet.public.b}"]}
- service: elbv2
  operation: CreateListener
  input:
    LoadBalancerArn: ${web.LoadBalancers[0].LoadBalancerArn}
    Protocol: HTTPS
    Port: 443
    Certificates: [{CertificateArn: "${certificate.CertificateArn}"}]
    DefaultActions: [{Type: fixed-response, FixedResponseConfig: {StatusCode: "200"}}]
`, http.StatusNoContent, nil)
	lb := must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{"web"}}))(w).LoadBalancers[0].LoadBalancerArn
	if found := must(w.elb.DescribeListeners(ctx, &elb.DescribeListenersInput{LoadBalancerArn: lb}))(w).Listeners; len(found) != 1 || len(found[0].Certificates) != 1 {
		t.Errorf("listeners: %+v", found)
	}
}
