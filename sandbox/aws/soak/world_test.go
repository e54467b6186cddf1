package soak

import (
	"bufio"

	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// world is an account with one load balancer that serves HTTP on port 80 and HTTPS on port 443.
type world struct {
	testing.TB
	emulator *aws.Emulator
	vpc      *address.VPC
	// api is the real address of the endpoint, plain and secure those of the nodes of the load balancer.
	api           string
	plain, secure []string

	elb     *elb.Client
	ec2     *ec2.Client
	acm     *acm.Client
	route53 *route53.Client
	client  *http.Client

	balancer, listener, group, canary string
	subnets, pods                     []string
	// done counts what clients did.
	done atomic.Int64
}

func newWorld(tb testing.TB, change func(*aws.Config)) *world {
	tb.Helper()
	vpc, err := address.Claim()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = vpc.Release() })
	config := aws.Config{
		VPC: vpc.Mapping, OpenSecurityGroups: true, Unthrottled: true, JournalSize: 1000, Seed: 1, Log: slog.New(slog.DiscardHandler),
	}
	change(&config)
	w := &world{TB: tb, vpc: vpc, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	if w.emulator, err = aws.New(config); err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.emulator.Serve(l) }()
	tb.Cleanup(func() {
		if err := w.emulator.Close(); err != nil {
			tb.Error(err)
		}
		<-served
	})
	w.api = l.Addr().String()
	w.connect()
	return w
}

// connect makes the clients of the API. They repeat calls, as programs do: now and then the SDK closes a connection while it reads an answer.
func (w *world) connect() {
	c := sdk.Config{
		Region: "eu-west-1", BaseEndpoint: new("http://" + w.api), HTTPClient: w.client,
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
	}
	w.elb, w.ec2, w.acm, w.route53 = elb.NewFromConfig(c), ec2.NewFromConfig(c), acm.NewFromConfig(c), route53.NewFromConfig(c)
}

// must fails if a call does.
func must[T any](w *world, out T, err error) T {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// pod is the address of a new pod in a zone.
func (w *world) pod(zone, name string) string {
	w.Helper()
	machine, err := w.emulator.EC2().AddInstance(zone, name)
	if err != nil {
		w.Fatal(err)
	}
	a, err := w.emulator.EC2().AssignPodAddress(machine.ID)
	if err != nil {
		w.Fatal(err)
	}
	return a.String()
}

// furnish makes the load balancer with two groups of one target each, and waits until both listeners answer.
func (w *world) furnish() {
	w.Helper()
	ctx := w.Context()
	for _, zone := range []string{"eu-west-1a", "eu-west-1b"} {
		machine, err := w.emulator.EC2().AddInstance(zone, "node-"+zone)
		if err != nil {
			w.Fatal(err)
		}
		w.subnets = append(w.subnets, machine.Subnet)
	}
	lb, err := w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new("web"), Subnets: w.subnets, Scheme: types.LoadBalancerSchemeEnumInternal})
	w.balancer = *must(w, lb, err).LoadBalancers[0].LoadBalancerArn
	w.group, w.canary = w.newGroup("stable"), w.newGroup("canary")
	for i, group := range []string{w.group, w.canary} {
		pod := w.pod("eu-west-1a", fmt.Sprint("pod-", i))
		w.pods = append(w.pods, pod)
		w.serve(pod)
		out, err := w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: &pod}}})
		must(w, out, err)
	}
	certificate, key := selfSigned(w)
	imported, err := w.acm.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certificate, PrivateKey: key})
	must(w, imported, err)
	listener, err := w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &w.balancer, Port: new(int32(80)), Protocol: types.ProtocolEnumHttp, DefaultActions: w.forward(1, 1)})
	w.listener = *must(w, listener, err).Listeners[0].ListenerArn
	secure, err := w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &w.balancer, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: w.forward(1, 1),
		Certificates: []types.Certificate{{CertificateArn: imported.CertificateArn}},
	})
	must(w, secure, err)
	for _, node := range w.emulator.Endpoints()[0].Nodes {
		w.plain, w.secure = append(w.plain, node.Real[80].String()), append(w.secure, node.Real[443].String())
	}
	for _, at := range w.plain {
		w.eventually("the node at "+at+" serves", func() bool {
			response, err := w.client.Get("http://" + at + "/")
			if err != nil {
				return false
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			return response.StatusCode == http.StatusOK
		})
	}
}

func (w *world) newGroup(name string) string {
	w.Helper()
	out, err := w.elb.CreateTargetGroup(w.Context(), &elb.CreateTargetGroupInput{
		Name: &name, Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: new(w.emulator.EC2().VPC()), TargetType: types.TargetTypeEnumIp,
		HealthCheckIntervalSeconds: new(int32(5)), HealthCheckTimeoutSeconds: new(int32(2)),
	})
	arn := *must(w, out, err).TargetGroups[0].TargetGroupArn
	modified, err := w.elb.ModifyTargetGroupAttributes(w.Context(), &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &arn, Attributes: []types.TargetGroupAttribute{
		{Key: new("deregistration_delay.timeout_seconds"), Value: new("1")},
	}})
	must(w, modified, err)
	return arn
}

func (w *world) forward(a, b int32) []types.Action {
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{TargetGroups: []types.TargetGroupTuple{
		{TargetGroupArn: &w.group, Weight: &a}, {TargetGroupArn: &w.canary, Weight: &b},
	}}}}
}

// eventually waits for a condition.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain: %s", what)
		}
	}
}

// serve is a target: it takes every body, sends a megabyte for /large, and speaks what could be WebSocket with whoever upgrades.
func (w *world) serve(pod string) {
	w.Helper()
	l, err := net.Listen("tcp", w.vpc.Real(netip.AddrPortFrom(netip.MustParseAddr(pod), 8080)).String())
	if err != nil {
		w.Fatal(err)
	}
	large := make([]byte, 1<<20)
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echo(rw)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/large" {
			_, _ = rw.Write(large)
			return
		}
		_, _ = io.WriteString(rw, "hello")
	})}
	go func() { _ = server.Serve(l) }()
	w.Cleanup(func() { _ = server.Close() })
}

func echo(rw http.ResponseWriter) {
	conn, both, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, bufio.NewReader(both))
}

// selfSigned is a certificate with its key, as PEM.
func selfSigned(w *world) (certificate, key []byte) {
	w.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"shop.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		w.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		w.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

var trusting = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the certificate is made for the test
