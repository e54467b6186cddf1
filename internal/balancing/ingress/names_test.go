package ingress

import "testing"

// The digests were computed by hand, with printf %s ... | sha256sum: existing load balancers have these names.
func TestNamesAreThoseOfExistingResources(t *testing.T) {
	for _, c := range []struct{ what, got, want string }{
		{"load balancer: cluster, ns/name, scheme", loadBalancerName("test", "shop", "web", "internal"), "k8s-shop-web-953e470596"},
		{"the scheme is part of it", loadBalancerName("test", "shop", "web", "internet-facing"), "k8s-shop-web-3646ddc681"},
		{"security group: cluster, ns/name", securityGroupName("test", "shop", "web"), "k8s-shop-web-946ab7f3c3"},
		{"shared security group: cluster", backendGroupName("test"), "k8s-traffic-test-9f86d08188"},
		{"target group", targetGroupName("shop", "canary", "test", "shop/web", "shop", "web", "uid-canary", "80", "8080", "ip", "HTTP", "HTTP1"), "k8s-shop-canary-51982f04dc"},
		{"long names are cut after cleaning", securityGroupName("test", "a-long-namespace", "my.ingress_name"), "k8s-alongnam-myingres-aebb8ed66c"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, c.got, c.want)
		}
	}
}
