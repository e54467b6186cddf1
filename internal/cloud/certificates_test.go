package cloud_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acm"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// certificate is one that a private authority issues at once.
func (a account) certificate(t *testing.T, name string) string {
	t.Helper()
	client := acm.New(acm.Options{Region: "eu-west-1", BaseEndpoint: &a.endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, "")})
	out := must(client.RequestCertificate(t.Context(), &acm.RequestCertificateInput{DomainName: new(name + ".example.com"),
		CertificateAuthorityArn: new("arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/11111111-2222-3333-4444-555555555555")}))(t)
	return *out.CertificateArn
}

// Law 3: a certificate that ceases to be the default one and is still wanted is beside the new one before that takes
// its place.
func TestTheOldDefaultCertificateStaysWhileAnotherTakesItsPlace(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{})
	w := create(t, c)
	old, next, third := a.certificate(t, "old"), a.certificate(t, "next"), a.certificate(t, "third")
	listener := must(c.CreateListener(t.Context(), w.lb, model.Listener{Port: 443, Protocol: "HTTPS", Tags: owned("443"),
		DefaultActions: w.split(100, 0), Certificates: []string{old, third}}))(t)
	before := len(a.Journal().Since(0))
	check(t, c.ModifyListener(t.Context(), listener.ARN, model.Listener{Certificates: []string{next, old}}))
	var calls []string
	for _, r := range a.Journal().Since(0)[before:] {
		if strings.Contains(r.Operation, "ListenerCertificates") && !strings.HasPrefix(r.Operation, "Describe") || r.Operation == "ModifyListener" {
			calls = append(calls, r.Operation)
		}
	}
	if want := []string{"AddListenerCertificates", "ModifyListener", "RemoveListenerCertificates"}; !slices.Equal(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
	reader := a.connect(t, cloud.Settings{})
	for _, l := range must(reader.Stack(t.Context(), stackID))(t).LoadBalancers[0].Listeners {
		if l.Port == 443 && !slices.Equal(l.Certificates, []string{next, old}) {
			t.Errorf("the listener has %v, want %v", l.Certificates, []string{next, old})
		}
	}
	// A change of weights alone is one call, as ever.
	before = len(a.Journal().Since(0))
	check(t, c.ModifyListener(t.Context(), listener.ARN, model.Listener{DefaultActions: w.split(50, 50), Certificates: []string{next, old}}))
	calls = nil
	for _, r := range a.Journal().Since(0)[before:] {
		if r.Operation != "" && !strings.HasPrefix(r.Operation, "Describe") { // the rest is what the nodes took
			calls = append(calls, r.Operation)
		}
	}
	if want := []string{"ModifyListener"}; !slices.Equal(calls, want) {
		t.Errorf("the calls for a weight are %v, want %v", calls, want)
	}
}
