package aws_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/certtest"
)

// mutualWorld is an account with an HTTPS listener, and a target that tells which headers it has got.
type mutualWorld struct {
	*world
	lb, listener, group string
	certificate         string // that the listener shows
}

const bucket = "authorities"

func newMutualWorld(t *testing.T, mutual *types.MutualAuthenticationAttributes, prepare func(*world)) *mutualWorld {
	t.Helper()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	w := &mutualWorld{world: newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic = vpc.Mapping, false })}
	prepare(w.world)
	shown, key := keyPair(t, "first.example.com")
	w.certificate = *must(acm.NewFromConfig(w.config(owner)).ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: shown, PrivateKey: key}))(w.world).CertificateArn
	w.lb = *w.loadBalancer("web").LoadBalancerArn
	w.letIn(w.lb)
	w.group = w.targetGroup("app")
	w.register(w.group, w.podThat(vpc, func(rw http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(rw).Encode(r.Header) }))
	w.listener = *must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &w.lb, Port: new(int32(80)), Protocol: types.ProtocolEnumHttps, DefaultActions: forward(w.group),
		Certificates: []types.Certificate{{CertificateArn: &w.certificate}}, MutualAuthentication: mutual,
	}))(w.world).Listeners[0].ListenerArn
	return w
}

func (w *world) put(key string, text []byte) {
	w.Helper()
	w.admin("PUT", "objects/"+bucket+"/"+key, string(text), http.StatusNoContent, nil)
}

func (w *world) trustStoreOf(name string, authority *certtest.Authority) string {
	w.Helper()
	w.put(name, authority.PEM())
	arn := *must(w.elb.CreateTrustStore(ctx, &elb.CreateTrustStoreInput{
		Name: &name, CaCertificatesBundleS3Bucket: new(bucket), CaCertificatesBundleS3Key: &name,
	}))(w).TrustStores[0].TrustStoreArn
	w.eventually("the trust store is active", func() bool {
		return must(w.elb.DescribeTrustStores(ctx, &elb.DescribeTrustStoresInput{TrustStoreArns: []string{arn}}))(w).TrustStores[0].Status == types.TrustStoreStatusActive
	})
	return arn
}

// ask asks one node as a client with a certificate, nil for none. The headers are those that the target has got.
func (w *mutualWorld) ask(at string, client *tls.Certificate, protocol string) (told http.Header, err error) {
	w.Helper()
	config := &tls.Config{InsecureSkipVerify: true}
	if client != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil }
	}
	var protocols http.Protocols
	protocols.SetHTTP1(protocol == "HTTP/1.1")
	protocols.SetHTTP2(protocol == "HTTP/2.0")
	transport := &http.Transport{TLSClientConfig: config, Protocols: &protocols}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+at+"/", nil)
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("X-Amzn-Mtls-Clientcert-Subject", "CN=spoofed")
	r.Header.Set("X-Amzn-Mtls-Clientcert", "spoofed")
	r.Header.Set("Client-Subject", "CN=spoofed")
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Proto != protocol {
		return nil, errors.New(response.Proto + " " + response.Status)
	}
	return told, json.NewDecoder(response.Body).Decode(&told)
}

// turnedAway says whether a handshake has failed for the client's certificate.
func turnedAway(err error) bool {
	var alert *net.OpError
	return errors.As(err, &alert) && strings.Contains(err.Error(), "remote error: tls: ")
}

// wantIn waits until all nodes let a client in and tell the target of it by this header.
func (w *mutualWorld) wantIn(who string, client *tls.Certificate, header, value string) {
	w.Helper()
	w.onEveryNode(who+" gets in", func(at, protocol string) bool {
		told, err := w.ask(at, client, protocol)
		return err == nil && told.Get(header) == value && len(told[http.CanonicalHeaderKey(header)]) <= 1
	})
}

// wantOut waits until no node lets a client in.
func (w *mutualWorld) wantOut(who string, client *tls.Certificate) {
	w.Helper()
	w.onEveryNode(who+" does not get in", func(at, protocol string) bool {
		_, err := w.ask(at, client, protocol)
		return turnedAway(err)
	})
}

func (w *mutualWorld) onEveryNode(what string, holds func(at, protocol string) bool) {
	w.Helper()
	w.eventually("there are nodes", func() bool { e := w.emulator.Endpoints(); return len(e) > 0 && len(e[0].Nodes) > 0 })
	for _, node := range w.emulator.Endpoints()[0].Nodes {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			w.eventually(node.Zone+" over "+protocol+": "+what, func() bool { return holds(node.Real[80].String(), protocol) })
		}
	}
}

func (w *mutualWorld) become(m types.MutualAuthenticationAttributes) {
	w.Helper()
	must(w.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &w.listener, MutualAuthentication: &m}))(w.world)
}

// From the first API call to bytes: whom a trust store is good for gets in, and the target hears who it is.
func TestListenersVerifyClients(t *testing.T) {
	t.Parallel()
	root, stranger := certtest.New(t, "root"), certtest.New(t, "stranger")
	var store string
	m := &types.MutualAuthenticationAttributes{Mode: new("verify")}
	w := newMutualWorld(t, m, func(w *world) { store = w.trustStoreOf("ca", root); m.TrustStoreArn = &store })
	const subject = "X-Amzn-Mtls-Clientcert-Subject"
	good, victim, old, foreign := root.Client("good"), root.Client("victim"), root.Client("old", certtest.Expired), stranger.Client("foreign")

	w.wantIn("a good one", &good, subject, "CN=good")
	w.wantIn("one that is not revoked yet", &victim, subject, "CN=victim")
	w.wantOut("nobody", nil)
	w.wantOut("a stranger", &foreign)
	w.wantOut("one whose time is over", &old)
	w.wantOut("garbage", &tls.Certificate{Certificate: [][]byte{[]byte("garbage")}, PrivateKey: good.PrivateKey, Leaf: good.Leaf})

	w.put("list", root.Revoke(victim.Leaf))
	added := must(w.elb.AddTrustStoreRevocations(ctx, &elb.AddTrustStoreRevocationsInput{
		TrustStoreArn: &store, RevocationContents: []types.RevocationContent{{S3Bucket: new(bucket), S3Key: new("list")}},
	}))(w.world).TrustStoreRevocations[0]
	w.wantOut("one that is revoked", &victim)
	w.wantIn("a good one", &good, subject, "CN=good")

	// Objects are read when they are named, and never again.
	w.put("ca", stranger.PEM())
	must(w.elb.RemoveTrustStoreRevocations(ctx, &elb.RemoveTrustStoreRevocationsInput{TrustStoreArn: &store, RevocationIds: []int64{*added.RevocationId}}))(w.world)
	w.wantIn("one that is no longer revoked", &victim, subject, "CN=victim")
	w.become(types.MutualAuthenticationAttributes{Mode: new("verify"), TrustStoreArn: &store, IgnoreClientCertificateExpiry: new(true), AdvertiseTrustStoreCaNames: "on"})
	w.wantIn("one whose time is over, where that does not matter", &old, subject, "CN=old")

	w.put("both", append(root.PEM(), stranger.PEM()...))
	must(w.elb.ModifyTrustStore(ctx, &elb.ModifyTrustStoreInput{TrustStoreArn: &store, CaCertificatesBundleS3Bucket: new(bucket), CaCertificatesBundleS3Key: new("both")}))(w.world)
	w.wantIn("one that is a stranger no more", &foreign, subject, "CN=foreign")
	must(w.elb.ModifyListenerAttributes(ctx, &elb.ModifyListenerAttributesInput{ListenerArn: &w.listener, Attributes: []types.ListenerAttribute{
		{Key: new("routing.http.request.x_amzn_mtls_clientcert_subject.header_name"), Value: new("Client-Subject")},
	}}))(w.world)
	w.wantIn("by another name, a good one", &good, "Client-Subject", "CN=good")

	w.become(types.MutualAuthenticationAttributes{Mode: new("off")})
	w.wantIn("anybody", nil, "Client-Subject", "CN=spoofed")
}

// In mode passthrough everybody gets in, and the target sees the chain.
func TestListenersPassCertificatesThrough(t *testing.T) {
	t.Parallel()
	w := newMutualWorld(t, &types.MutualAuthenticationAttributes{Mode: new("passthrough")}, func(*world) {})
	client := certtest.New(t, "nobody knows").Client("old", certtest.Expired)
	w.wantIn("nobody", nil, "X-Amzn-Mtls-Clientcert", "")
	w.onEveryNode("the chain is passed through", func(at, protocol string) bool {
		told, err := w.ask(at, &client, protocol)
		return err == nil && strings.HasPrefix(told.Get("X-Amzn-Mtls-Clientcert"), "-----BEGIN%20CERTIFICATE-----%0AMII") && told.Get("X-Amzn-Mtls-Clientcert-Subject") == ""
	})

	// The certificate of the listener is imported once more, and nothing is said to the listener.
	shown, key := keyPair(t, "second.example.com")
	must(acm.NewFromConfig(w.config(owner)).ImportCertificate(ctx, &acm.ImportCertificateInput{CertificateArn: &w.certificate, Certificate: shown, PrivateKey: key}))(w.world)
	w.onEveryNode("the renewed certificate is shown", func(at, _ string) bool {
		var names []string
		config := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
			names = state.PeerCertificates[0].DNSNames
			return x509.UnknownAuthorityError{}
		}}
		if conn, err := tls.Dial("tcp", at, config); err == nil {
			_ = conn.Close()
		}
		return len(names) == 1 && names[0] == "second.example.com"
	})
}

// After a restart the nodes know whom to let in, whatever has become of the objects.
func TestTrustStoresOutliveTheProcess(t *testing.T) {
	t.Parallel()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	dir := t.TempDir()
	open := func() *mutualWorld {
		return &mutualWorld{world: newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic, c.DataDir = vpc.Mapping, false, dir })}
	}
	root := certtest.New(t, "root")
	good, victim := root.Client("good"), root.Client("victim")
	first := open()
	store := first.trustStoreOf("ca", root)
	first.put("list", root.Revoke(victim.Leaf))
	must(first.elb.AddTrustStoreRevocations(ctx, &elb.AddTrustStoreRevocationsInput{
		TrustStoreArn: &store, RevocationContents: []types.RevocationContent{{S3Bucket: new(bucket), S3Key: new("list")}},
	}))(first.world)
	lb := *first.loadBalancer("web").LoadBalancerArn
	first.letIn(lb)
	answer := fixed("200")
	answer[0].FixedResponseConfig.MessageBody = new("{}")
	must(first.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumHttps, DefaultActions: answer,
		Certificates:         []types.Certificate{{CertificateArn: new("arn:aws:iam::123456789012:server-certificate/web")}},
		MutualAuthentication: &types.MutualAuthenticationAttributes{Mode: new("verify"), TrustStoreArn: &store},
	}))(first.world)
	first.wantOut("one that is revoked", &victim)
	if err := first.emulator.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "objects")); err != nil {
		t.Fatal(err)
	}
	again := open()
	again.wantIn("a good one", &good, "Any", "")
	again.wantOut("one that is revoked", &victim)
}
