package aws_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// scene is an account with one of everything, in the states that calls are refused for.
type scene struct {
	*world
	subnets []string
	// address is the private address of nlb, in the first subnet.
	address string
	vpcID   string
	// alb and nlb are active; busy has a reservation that is pending, tired one that cannot be lowered any more; young is being
	// provisioned; front is a target of group fronted; protected cannot be deleted.
	alb, nlb, busy, tired, young, front, protected string
	// listeners: HTTP, HTTPS and TLS; rule 5 and 6 and the default one of http.
	http, https, tls, frontPort  string
	rule, second, byDefault      string
	used, spare, elsewhere, grpc string
	tcp, loose                   string // the second is used by nobody
	fronted, sticky              string
	ports, addresses             [2]string // groups with 600 registrations of one target, and of 600
	certificate, pending         string
	trust, unready               string
	bucket                       string
}

func newScene(w *world) *scene {
	w.Helper()
	s := &scene{world: w, subnets: w.subnets(), vpcID: w.vpc(), bucket: "certificates"}
	s.makeObjects()
	s.makeBalancers()
	s.makeGroups()
	s.makeListeners()
	s.makePending()
	return s
}

// authority is the certificate of an authority as PEM, with a list of so many revoked certificates.
func (s *scene) authority(revoked int) (certificate, list string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(der)
	if err != nil {
		s.Fatal(err)
	}
	crl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for i := range revoked {
		crl.RevokedCertificateEntries = append(crl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(int64(i + 1)), RevocationTime: time.Now()})
	}
	text, err := x509.CreateRevocationList(rand.Reader, crl, issuer, key)
	if err != nil {
		s.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(text)
}

func (s *scene) makeObjects() {
	s.Helper()
	ca, list := s.authority(25_000)
	for key, text := range map[string]string{"ca.pem": ca, "pair.pem": ca + ca, "list.crl": list, "junk": "no certificate"} {
		s.admin("PUT", "objects/"+s.bucket+"/"+key, text, http.StatusNoContent, nil)
	}
	manager := acm.NewFromConfig(s.config(owner))
	pemText, key := keyPair(s.T, "shop.example.com")
	s.certificate = *must(manager.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: pemText, PrivateKey: key}))(s.world).CertificateArn
	s.pending = *must(manager.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("later.example.com"), ValidationMethod: "DNS"}))(s.world).CertificateArn
	s.trust = s.trustStore("trust")
	s.eventually("the trust store is active", func() bool {
		return must(s.elb.DescribeTrustStores(ctx, &elb.DescribeTrustStoresInput{Names: []string{"trust"}}))(s.world).TrustStores[0].Status == types.TrustStoreStatusActive
	})
}

func (s *scene) trustStore(name string) string {
	s.Helper()
	return *must(s.elb.CreateTrustStore(ctx, &elb.CreateTrustStoreInput{
		Name: &name, CaCertificatesBundleS3Bucket: &s.bucket, CaCertificatesBundleS3Key: new("ca.pem"),
	}))(s.world).TrustStores[0].TrustStoreArn
}

func (s *scene) active(arns ...string) {
	s.Helper()
	s.eventually("load balancers are active", func() bool {
		for _, lb := range must(s.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: arns}))(s.world).LoadBalancers {
			if lb.State.Code != types.LoadBalancerStateEnumActive {
				return false
			}
		}
		return true
	})
}

// reserve asks for capacity and waits until it is there.
func (s *scene) reserve(lb string, units int32) {
	s.Helper()
	must(s.elb.ModifyCapacityReservation(ctx, &elb.ModifyCapacityReservationInput{
		LoadBalancerArn: &lb, MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: &units},
	}))(s.world)
	s.eventually("the capacity is reserved", func() bool {
		return must(s.elb.DescribeCapacityReservation(ctx, &elb.DescribeCapacityReservationInput{LoadBalancerArn: &lb}))(s.world).
			CapacityReservationState[0].State.Code == types.CapacityReservationStateEnumProvisioned
	})
}

func (s *scene) makeBalancers() {
	s.Helper()
	for name, arn := range map[string]*string{"alb": &s.alb, "busy": &s.busy, "tired": &s.tired, "front": &s.front, "protected": &s.protected} {
		*arn = *s.loadBalancer(name).LoadBalancerArn
	}
	first := must(s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: s.subnets[:1]}))(s.world).Subnets[0]
	base := netip.MustParsePrefix(*first.CidrBlock).Addr().As4()
	base[3] = 200
	s.address = netip.AddrFrom4(base).String()
	s.nlb = *must(s.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: new("nlb"), Type: types.LoadBalancerTypeEnumNetwork, Scheme: types.LoadBalancerSchemeEnumInternal,
		SubnetMappings: []types.SubnetMapping{{SubnetId: &s.subnets[0], PrivateIPv4Address: &s.address}},
	}))(s.world).LoadBalancers[0].LoadBalancerArn
	s.active(s.alb, s.busy, s.tired, s.front, s.nlb)
	s.reserve(s.busy, 500)
	for _, units := range []int32{500, 400, 300} {
		s.reserve(s.tired, units)
	}
	must(s.elb.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &s.protected, Attributes: lbAttribute("deletion_protection.enabled", "true")}))(s.world)
}

func (s *scene) groupOf(name string, change func(*elb.CreateTargetGroupInput)) string {
	s.Helper()
	in := &elb.CreateTargetGroupInput{Name: &name, Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: &s.vpcID, TargetType: types.TargetTypeEnumIp}
	if change != nil {
		change(in)
	}
	return *must(s.elb.CreateTargetGroup(ctx, in))(s.world).TargetGroups[0].TargetGroupArn
}

// many registers n targets of a group: n ports of one, or one port of n.
func (s *scene) many(group string, n int, ports bool, first int) {
	s.Helper()
	var all []types.TargetDescription
	for i := range n {
		d := types.TargetDescription{Id: new(fmt.Sprintf("192.168.%d.%d", (first+i)/250, (first+i)%250+1)), AvailabilityZone: new("all")}
		if ports {
			d = types.TargetDescription{Id: new("192.168.200.1"), Port: new(int32(first + i + 1)), AvailabilityZone: new("all")}
		}
		all = append(all, d)
	}
	for len(all) > 0 {
		now := all[:min(200, len(all))]
		must(s.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: now}))(s.world)
		all = all[len(now):]
	}
}

func (s *scene) makeGroups() {
	s.Helper()
	s.used, s.spare, s.elsewhere = s.groupOf("used", nil), s.groupOf("spare", nil), s.groupOf("elsewhere", nil)
	s.grpc = s.groupOf("grpc", func(in *elb.CreateTargetGroupInput) { in.ProtocolVersion = new("GRPC") })
	s.tcp = s.groupOf("tcp", func(in *elb.CreateTargetGroupInput) { in.Protocol = types.ProtocolEnumTcp })
	s.loose = s.groupOf("loose", func(in *elb.CreateTargetGroupInput) { in.Protocol = types.ProtocolEnumTcp })
	s.fronted = s.groupOf("fronted", func(in *elb.CreateTargetGroupInput) {
		in.Protocol, in.TargetType, in.Port = types.ProtocolEnumTcp, types.TargetTypeEnumAlb, new(int32(80))
	})
	s.sticky = s.groupOf("sticky", nil)
	must(s.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &s.sticky, Attributes: groupAttribute("stickiness.enabled", "true")}))(s.world)
	for i := range 2 {
		s.ports[i], s.addresses[i] = s.groupOf(fmt.Sprint("ports", i), nil), s.groupOf(fmt.Sprint("addresses", i), nil)
		s.many(s.ports[i], 600, true, i*600)
		s.many(s.addresses[i], 600, false, i*600)
	}
}

// secured is a listener with a certificate.
func (s *scene) secured(lb string, port int32, protocol types.ProtocolEnum, actions []types.Action) string {
	s.Helper()
	return *must(s.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: &port, Protocol: protocol, DefaultActions: actions, Certificates: []types.Certificate{{CertificateArn: &s.certificate}},
	}))(s.world).Listeners[0].ListenerArn
}

func (s *scene) makeListeners() {
	s.Helper()
	s.http = s.listener(s.alb, 80, forward(s.used))
	s.https = *must(s.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &s.alb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixed("200"), Certificates: []types.Certificate{{CertificateArn: &s.certificate}},
		MutualAuthentication: &types.MutualAuthenticationAttributes{Mode: new("verify"), TrustStoreArn: &s.trust},
	}))(s.world).Listeners[0].ListenerArn
	s.tls = s.secured(s.nlb, 443, types.ProtocolEnumTls, forward(s.tcp))
	s.frontPort = s.listener(s.front, 80, forward(s.elsewhere))
	must(s.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &s.fronted, Targets: []types.TargetDescription{{Id: &s.front}}}))(s.world)
	s.rule, s.second = s.world.rule(s.http, 5, fixed("200")), s.world.rule(s.http, 6, fixed("200"))
	s.byDefault = *must(s.elb.DescribeRules(ctx, &elb.DescribeRulesInput{ListenerArn: &s.http}))(s.world).Rules[2].RuleArn
}

// makePending makes what takes its time.
func (s *scene) makePending() {
	s.Helper()
	s.admin("PUT", "profile", "base: ideal\nseconds:\n  lb.provision.alb: F(3600)\n  alb.certificate: F(3600)\n", http.StatusOK, nil)
	s.young = *s.loadBalancer("young").LoadBalancerArn
	s.unready = s.trustStore("unready")
	must(s.elb.ModifyCapacityReservation(ctx, &elb.ModifyCapacityReservationInput{
		LoadBalancerArn: &s.busy, MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: new(int32(600))},
	}))(s.world)
}

// gone is an ARN like another one, of something that is not there.
func gone(arn string) *string { return new(arn[:strings.LastIndex(arn, "/")+1] + "0123456789abcdef") }

// tags are n tags.
func manyTags(n int) (list []types.Tag) {
	for i := range n {
		list = append(list, types.Tag{Key: new(fmt.Sprint("key", i)), Value: new("")})
	}
	return list
}
