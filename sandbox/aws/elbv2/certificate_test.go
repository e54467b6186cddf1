package elbv2

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// The certificate manager may wait for Route 53 and that for the name of a load balancer: nobody asks for a certificate under the lock.
func TestCertificatesAreAskedForWithoutTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		asked, held := 0, 0
		a.Service.config.Certificate = func(string) (tls.Certificate, bool, bool) {
			asked++
			if !a.Service.mu.TryLock() {
				held++
				return tls.Certificate{}, true, true
			}
			a.Service.mu.Unlock()
			return tls.Certificate{}, true, true
		}
		lb, arn := a.balancerARN(), "arn:aws:acm:eu-west-1:123456789012:certificate/x"
		retry(a, a.CreateListener, &elb.CreateListenerInput{
			LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixedAction(), Certificates: []types.Certificate{{CertificateArn: &arn}},
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked != 1+len(zones) || held != 0 {
			t.Errorf("certificates were asked for %d times, %d of them under the lock", asked, held)
		}
		if config, _ := a.node(zones[0]).last(); len(config.Listeners) != 1 || len(config.Listeners[0].Certificates) != 1 {
			t.Errorf("a node was told %+v", config.Listeners)
		}
	})
}

// A listener that becomes one without TLS gives up all its certificates: they can be deleted then.
func TestAListenerWithoutTLSUsesNoCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		lb, first, second := a.balancerARN(), "arn:aws:acm:eu-west-1:123456789012:certificate/x", "arn:aws:acm:eu-west-1:123456789012:certificate/y"
		listener := retry(a, a.CreateListener, &elb.CreateListenerInput{
			LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixedAction(), Certificates: []types.Certificate{{CertificateArn: &first}},
		}).Listeners[0].ListenerArn
		retry(a, a.AddListenerCertificates, &elb.AddListenerCertificatesInput{ListenerArn: listener, Certificates: []types.Certificate{{CertificateArn: &second}}})
		retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: listener, Protocol: types.ProtocolEnumHttp})
		for _, arn := range []string{first, second} {
			if users := a.CertificateUsers(arn); len(users) != 0 {
				t.Errorf("%s is used by %v", arn, users)
			}
		}
	})
}
