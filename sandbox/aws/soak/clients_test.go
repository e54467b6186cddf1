package soak

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/blackhole"
)

// client is one kind of client: it does one thing, once.
type client struct {
	name string
	act  func(w *world, ctx context.Context, r *rand.Rand)
}

// clients are all kinds. Those of the API send no signature, or bad requests, or vanish; the last ones are good.
var clients = []client{
	{"malformed", malformed}, {"unknown", unknown}, {"megabyte", megabyte}, {"certificates", certificates},
	{"slow headers to the API", func(w *world, ctx context.Context, r *rand.Rand) { slowHeaders(w, ctx, r, w.api) }},
	{"slow headers to a node", func(w *world, ctx context.Context, r *rand.Rand) { slowHeaders(w, ctx, r, one(r, w.plain)) }},
	{"half-open", halfOpen}, {"huge headers", hugeHeaders}, {"aborted uploads", abortedUploads}, {"slow readers", slowReaders},
	{"open tunnels", openTunnels}, {"bad handshakes", badHandshakes}, {"requests", requests},
	{"groups", groups}, {"rules", rules}, {"balancers", balancers}, {"targets", targets}, {"others", others},
}

func one(r *rand.Rand, list []string) string { return list[r.IntN(len(list))] }

// linger keeps a connection open for a while, or until the soak is over.
func linger(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// dial opens a connection. The caller closes it.
func dial(ctx context.Context, to string) net.Conn {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	return conn
}

// post sends a body to the API, without a signature.
func (w *world) post(ctx context.Context, path, kind string, header map[string]string, body []byte) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.api+path, bytes.NewReader(body))
	if err != nil {
		w.Error(err)
		return
	}
	request.Header.Set("Content-Type", kind)
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return // the soak is over
	}
	text, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if ctx.Err() == nil && (response.StatusCode < 400 || response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented || len(text) == 0) {
		w.Errorf("%s %v with %d bytes was answered %d %.200s", path, header, len(body), response.StatusCode, text)
	}
}

const formType = "application/x-www-form-urlencoded"

func malformed(w *world, ctx context.Context, r *rand.Rand) {
	junk := make([]byte, r.IntN(4096))
	for i := range junk {
		junk[i] = byte(r.Uint32())
	}
	switch r.IntN(6) {
	case 0:
		w.post(ctx, "/", formType, nil, junk)
	case 1:
		w.post(ctx, "/", formType, nil, []byte("Action=%zz&Version=2015-12-01"))
	case 2:
		w.post(ctx, "/", "application/x-amz-json-1.1", map[string]string{"X-Amz-Target": "CertificateManager.ListCertificates"}, junk)
	case 3:
		w.post(ctx, "/service/GraniteServiceVersion20100801/operation/GetMetricData", "application/cbor", map[string]string{"Smithy-Protocol": "rpc-v2-cbor"}, junk)
	case 4:
		w.post(ctx, "/2013-04-01/hostedzone", "text/xml", nil, append([]byte("<a><b>"), junk...))
	case 5: // not even HTTP
		if conn := dial(ctx, w.api); conn != nil {
			_, _ = conn.Write(append(junk, "\r\n\r\n"...))
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}
}

func unknown(w *world, ctx context.Context, r *rand.Rand) {
	n := r.IntN(200) // the names of unknown operations are counted, up to a bound that a soak does not come to
	w.post(ctx, "/", formType, nil, fmt.Appendf(nil, "Action=Describe%d&Version=2015-12-01", n))
	w.post(ctx, "/", formType, nil, fmt.Appendf(nil, "Action=DescribeRules&Version=2015-12-01&Parameter.%d.member.%d=1", n, n))
	w.post(ctx, "/", "application/x-amz-json-1.1", map[string]string{"X-Amz-Target": fmt.Sprint("Service", n, ".Operation", n)}, []byte("{}"))
}

func megabyte(w *world, ctx context.Context, r *rand.Rand) {
	switch r.IntN(3) {
	case 0:
		w.post(ctx, "/", formType, nil, []byte("Action=DescribeTargetGroups&Version=2015-12-01&Names.member.1="+strings.Repeat("n", 1_000_000)))
	case 1:
		w.post(ctx, "/?Action=DescribeTargetGroups&Version=2015-12-01&"+strings.Repeat("n", 1_000_000), formType, nil, nil)
	case 2:
		w.post(ctx, "/", formType, nil, bytes.Repeat([]byte("a=1&"), 1<<19)) // two megabytes
	}
}

// certificates are sent by a caller with a key, and do not parse.
func certificates(w *world, ctx context.Context, r *rand.Rand) {
	text := []byte("-----BEGIN CERTIFICATE-----\n" + strings.Repeat("A", r.IntN(1000)) + "\n-----END CERTIFICATE-----\n")
	if _, err := w.acm.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: text, PrivateKey: text}); err == nil && ctx.Err() == nil {
		w.Error("a certificate that does not parse was imported")
	}
}

// slowHeaders sends a byte at a time and vanishes in the middle.
func slowHeaders(_ *world, ctx context.Context, r *rand.Rand, to string) {
	conn := dial(ctx, to)
	if conn == nil {
		return
	}
	defer blackhole.Reset(conn)
	for range 1 + r.IntN(20) {
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: slow\r\nX-Slow: "[:1+r.IntN(30)]); err != nil {
			return
		}
		linger(ctx, 50*time.Millisecond)
	}
}

// halfOpen connects, says nothing, and is gone.
func halfOpen(w *world, ctx context.Context, r *rand.Rand) {
	conn := dial(ctx, one(r, append([]string{w.api}, append(w.plain, w.secure...)...)))
	if conn == nil {
		return
	}
	linger(ctx, time.Duration(r.Int64N(int64(time.Second))))
	if r.IntN(2) == 0 {
		blackhole.Reset(conn)
		return
	}
	_ = conn.Close()
}

func hugeHeaders(w *world, ctx context.Context, r *rand.Rand) {
	conn := dial(ctx, one(r, append([]string{w.api}, w.plain...)))
	if conn == nil {
		return
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Huge: %s\r\n\r\n", strings.Repeat("h", 10_000+r.IntN(3_000_000)))
	_, _ = bufio.NewReader(conn).ReadString('\n')
}

// abortedUploads announce more than they send.
func abortedUploads(w *world, ctx context.Context, r *rand.Rand) {
	conn := dial(ctx, one(r, append([]string{w.api}, w.plain...)))
	if conn == nil {
		return
	}
	defer blackhole.Reset(conn)
	if r.IntN(2) == 0 {
		_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat("u", r.IntN(100_000)))
	} else {
		_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n%s", strings.Repeat("u", r.IntN(60_000)))
	}
	linger(ctx, time.Duration(r.Int64N(int64(300*time.Millisecond))))
}

// slowReaders ask for much and read little of it.
func slowReaders(w *world, ctx context.Context, r *rand.Rand) {
	conn := dial(ctx, one(r, w.plain))
	if conn == nil {
		return
	}
	defer blackhole.Reset(conn)
	_, _ = io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
	buffer := make([]byte, 1000)
	for range r.IntN(10) {
		if _, err := conn.Read(buffer); err != nil {
			return
		}
		linger(ctx, 30*time.Millisecond)
	}
}

// openTunnels upgrade a connection, say a little and leave it.
func openTunnels(w *world, ctx context.Context, r *rand.Rand) {
	conn := dial(ctx, one(r, w.plain))
	if conn == nil {
		return
	}
	defer func() {
		if r.IntN(2) == 0 {
			blackhole.Reset(conn)
		}
		_ = conn.Close()
	}()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "101") && !strings.Contains(line, "50") {
		if ctx.Err() == nil && err == nil {
			w.Errorf("an upgrade was answered %q", line)
		}
		return
	}
	_, _ = io.WriteString(conn, "hello")
	linger(ctx, time.Duration(r.Int64N(int64(2*time.Second))))
}

func badHandshakes(w *world, ctx context.Context, r *rand.Rand) {
	conn := dial(ctx, one(r, w.secure))
	if conn == nil {
		return
	}
	defer conn.Close()
	switch r.IntN(3) {
	case 0:
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	case 1:
		_, _ = conn.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252}) // the beginning of a handshake
		linger(ctx, time.Duration(r.Int64N(int64(time.Second))))
	case 2:
		secure := tls.Client(conn, trusting)
		if secure.HandshakeContext(ctx) == nil {
			_, _ = io.WriteString(secure, "GET / HTTP/1.1\r\nHost: x\r\n")
		}
	}
}

// requests are what good clients send.
func requests(w *world, ctx context.Context, r *rand.Rand) {
	for range 20 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+one(r, w.plain)+"/", nil)
		if err != nil {
			w.Error(err)
			return
		}
		if response, err := w.client.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	}
}

// groups makes and deletes target groups.
func groups(w *world, ctx context.Context, r *rand.Rand) {
	out, err := w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name: new(fmt.Sprint("g-", r.Uint32())), Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: new(w.emulator.EC2().VPC()), TargetType: types.TargetTypeEnumIp,
		Tags: []types.Tag{{Key: new("number"), Value: new(fmt.Sprint(r.Uint32()))}},
	})
	if err != nil {
		return
	}
	// Not bound to ctx: nothing may be left when the soak is over.
	_, _ = w.elb.DeleteTargetGroup(context.WithoutCancel(ctx), &elb.DeleteTargetGroupInput{TargetGroupArn: out.TargetGroups[0].TargetGroupArn})
}

// rules makes, changes and deletes a rule while requests pass.
func rules(w *world, ctx context.Context, r *rand.Rand) {
	out, err := w.elb.CreateRule(ctx, &elb.CreateRuleInput{
		ListenerArn: &w.listener, Priority: new(1 + r.Int32N(40000)), Conditions: []types.RuleCondition{{Field: new("path-pattern"), Values: []string{"/rule*"}}}, Actions: w.forward(0, 1),
	})
	if err != nil {
		return
	}
	rule := out.Rules[0].RuleArn
	_, _ = w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: rule, Actions: w.forward(r.Int32N(100), r.Int32N(100))})
	_, _ = w.elb.DeleteRule(context.WithoutCancel(ctx), &elb.DeleteRuleInput{RuleArn: rule})
	_, _ = w.elb.ModifyListener(context.WithoutCancel(ctx), &elb.ModifyListenerInput{ListenerArn: &w.listener, DefaultActions: w.forward(1+r.Int32N(100), r.Int32N(100))})
}

// balancers makes a whole load balancer that serves, and deletes it.
func balancers(w *world, ctx context.Context, r *rand.Rand) {
	kind, protocol := types.LoadBalancerTypeEnumApplication, types.ProtocolEnumHttp
	action := []types.Action{{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("200")}}}
	out, err := w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new(fmt.Sprint("b-", r.Uint32())), Subnets: w.subnets, Type: kind, Scheme: types.LoadBalancerSchemeEnumInternal})
	if err != nil {
		return
	}
	arn := out.LoadBalancers[0].LoadBalancerArn
	_, _ = w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: arn, Port: new(int32(80)), Protocol: protocol, DefaultActions: action})
	_, _ = w.elb.DeleteLoadBalancer(context.WithoutCancel(ctx), &elb.DeleteLoadBalancerInput{LoadBalancerArn: arn})
}

// targets registers and deregisters addresses at which nobody listens.
func targets(w *world, ctx context.Context, r *rand.Rand) {
	list := []types.TargetDescription{{Id: &w.pods[0], Port: new(20_000 + r.Int32N(500))}}
	_, _ = w.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &w.group, Targets: list})
	_, _ = w.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &w.group})
	_, _ = w.elb.DeregisterTargets(context.WithoutCancel(ctx), &elb.DeregisterTargetsInput{TargetGroupArn: &w.group, Targets: list})
}

// others makes and deletes security groups and hosted zones.
func others(w *world, ctx context.Context, r *rand.Rand) {
	if out, err := w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: new(fmt.Sprint("s-", r.Uint32())), Description: new("soak"), VpcId: new(w.emulator.EC2().VPC())}); err == nil {
		_, _ = w.ec2.DeleteSecurityGroup(context.WithoutCancel(ctx), &ec2.DeleteSecurityGroupInput{GroupId: out.GroupId})
	}
	if out, err := w.route53.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: new(fmt.Sprintf("z%d.test", r.Uint32())), CallerReference: new(fmt.Sprint(r.Uint64()))}); err == nil {
		_, _ = w.route53.DeleteHostedZone(context.WithoutCancel(ctx), &route53.DeleteHostedZoneInput{Id: out.HostedZone.Id})
	}
}
