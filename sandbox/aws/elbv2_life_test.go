package aws_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

const (
	soon = 10 * time.Millisecond
	late = 20 * time.Second
)

// The SDK's waiters, as they are but for their pauses.
func TestEveryWaiterOfELBv2(t *testing.T) {
	t.Parallel()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	w := newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic = vpc.Mapping, false })
	await := func(name string, wait func() error) {
		t.Helper()
		if err := wait(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}

	named := &elb.DescribeLoadBalancersInput{Names: []string{"web"}}
	exists := make(chan error, 1)
	go func() { // before it does
		exists <- elb.NewLoadBalancerExistsWaiter(w.elb, func(o *elb.LoadBalancerExistsWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }).Wait(ctx, named, late)
	}()
	lb := *w.loadBalancer("web").LoadBalancerArn
	await("exists", func() error { return <-exists })
	await("available", func() error {
		return elb.NewLoadBalancerAvailableWaiter(w.elb, func(o *elb.LoadBalancerAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }).Wait(ctx, named, late)
	})

	w.letIn(lb)
	group := w.targetGroup("web")
	must(w.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &group, Attributes: groupAttribute("deregistration_delay.timeout_seconds", "1")}))(w)
	w.listener(lb, 80, forward(group))
	pod := w.pod(vpc, "web")
	w.register(group, pod)
	targets := &elb.DescribeTargetHealthInput{TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: &pod}}}
	await("in service", func() error {
		return elb.NewTargetInServiceWaiter(w.elb, func(o *elb.TargetInServiceWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }).Wait(ctx, targets, late)
	})
	must(w.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: targets.Targets}))(w)
	await("deregistered", func() error {
		return elb.NewTargetDeregisteredWaiter(w.elb, func(o *elb.TargetDeregisteredWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }).Wait(ctx, targets, late)
	})

	deleted := make(chan error, 1)
	go func() { // before it is
		deleted <- elb.NewLoadBalancersDeletedWaiter(w.elb, func(o *elb.LoadBalancersDeletedWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }).
			Wait(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{lb}}, late)
	}()
	must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &lb}))(w)
	await("deleted", func() error { return <-deleted })
}

// A waiter goes on for as long as the load balancer is being provisioned, and no longer.
func TestAWaiterWaitsForProvisioning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.admin("PUT", "profile", "base: ideal\nseconds:\n  lb.provision.alb: F(3600)\n", http.StatusOK, nil)
	named := &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{*w.loadBalancer("web").LoadBalancerArn}}
	limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	err := elb.NewLoadBalancerAvailableWaiter(w.elb, func(o *elb.LoadBalancerAvailableWaiterOptions) { o.MinDelay, o.MaxDelay = soon, soon }).Wait(limited, named, late)
	if err == nil {
		t.Error("a load balancer that is being provisioned counts as available")
	}
}

// Trust stores, their revocations and the listeners that use them: made, changed, described and deleted.
func TestTrustStoresLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newShelf(w)
	trust := func() types.TrustStore {
		return must(w.elb.DescribeTrustStores(ctx, &elb.DescribeTrustStoresInput{TrustStoreArns: []string{s.trust}}))(w).TrustStores[0]
	}
	want := types.TrustStore{Name: new("trust"), TrustStoreArn: &s.trust, Status: types.TrustStoreStatusActive, NumberOfCaCertificates: new(int32(1)), TotalRevokedEntries: new(int64(0))}
	if diff := cmp.Diff(want, trust(), ignoreUnexported); diff != "" {
		t.Errorf("new trust store (-want +got):\n%s", diff)
	}
	must(w.elb.ModifyTrustStore(ctx, &elb.ModifyTrustStoreInput{TrustStoreArn: &s.trust, CaCertificatesBundleS3Bucket: &s.bucket, CaCertificatesBundleS3Key: new("pair.pem")}))(w)
	added := must(w.elb.AddTrustStoreRevocations(ctx, &elb.AddTrustStoreRevocationsInput{TrustStoreArn: &s.trust, RevocationContents: []types.RevocationContent{
		{S3Bucket: &s.bucket, S3Key: new("short.crl")}, {S3Bucket: &s.bucket, S3Key: new("short.crl"), RevocationType: types.RevocationTypeCrl},
	}}))(w).TrustStoreRevocations
	if got := trust(); *got.NumberOfCaCertificates != 2 || *got.TotalRevokedEntries != 4 {
		t.Errorf("%d certificates, %d revoked", *got.NumberOfCaCertificates, *got.TotalRevokedEntries)
	}
	must(w.elb.RemoveTrustStoreRevocations(ctx, &elb.RemoveTrustStoreRevocationsInput{TrustStoreArn: &s.trust, RevocationIds: []int64{*added[0].RevocationId}}))(w)
	left := must(w.elb.DescribeTrustStoreRevocations(ctx, &elb.DescribeTrustStoreRevocationsInput{TrustStoreArn: &s.trust}))(w).TrustStoreRevocations
	if len(left) != 1 || *left[0].RevocationId != *added[1].RevocationId || *left[0].NumberOfRevokedEntries != 2 || *trust().TotalRevokedEntries != 2 {
		t.Errorf("revocations: %+v", left)
	}
	if at := *must(w.elb.GetTrustStoreCaCertificatesBundle(ctx, &elb.GetTrustStoreCaCertificatesBundleInput{TrustStoreArn: &s.trust}))(w).Location; at != "https://certificates.s3.eu-west-1.amazonaws.com/pair.pem" {
		t.Errorf("bundle at %s", at)
	}
	if at := *must(w.elb.GetTrustStoreRevocationContent(ctx, &elb.GetTrustStoreRevocationContentInput{TrustStoreArn: &s.trust, RevocationId: left[0].RevocationId}))(w).Location; at != "https://certificates.s3.eu-west-1.amazonaws.com/short.crl" {
		t.Errorf("revocations at %s", at)
	}

	mutual := func(change *types.MutualAuthenticationAttributes) types.MutualAuthenticationAttributes {
		must(w.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &s.other, MutualAuthentication: change}))(w)
		return *must(w.elb.DescribeListeners(ctx, &elb.DescribeListenersInput{ListenerArns: []string{s.other}}))(w).Listeners[0].MutualAuthentication
	}
	off := types.MutualAuthenticationAttributes{Mode: new("off")}
	if diff := cmp.Diff(off, mutual(nil), ignoreUnexported); diff != "" {
		t.Errorf("mutual authentication of a new listener (-want +got):\n%s", diff)
	}
	full := types.MutualAuthenticationAttributes{
		Mode: new("verify"), TrustStoreArn: &s.trust, IgnoreClientCertificateExpiry: new(false), AdvertiseTrustStoreCaNames: types.AdvertiseTrustStoreCaNamesEnumOff,
	}
	if diff := cmp.Diff(full, mutual(verify(&s.trust)), ignoreUnexported); diff != "" {
		t.Errorf("verifying (-want +got):\n%s", diff)
	}
	_, err := w.elb.DeleteTrustStore(ctx, &elb.DeleteTrustStoreInput{TrustStoreArn: &s.trust})
	w.wantCode(err, "TrustStoreInUse")
	mutual(&types.MutualAuthenticationAttributes{Mode: new("passthrough")})
	must(w.elb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{s.trust}, Tags: manyTags(1)}))(w)
	if tags := must(w.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: []string{s.trust}}))(w).TagDescriptions[0].Tags; len(tags) != 1 {
		t.Errorf("tags: %+v", tags)
	}
	must(w.elb.DeleteTrustStore(ctx, &elb.DeleteTrustStoreInput{TrustStoreArn: &s.trust}))(w)
	_, err = w.elb.DescribeTrustStores(ctx, &elb.DescribeTrustStoresInput{TrustStoreArns: []string{s.trust}})
	w.wantCode(err, "TrustStoreNotFound")
}

// A reservation goes from pending to provisioned, moves when the zones do, and is given back.
func TestCapacityIsReservedAndGivenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := &scene{world: w, subnets: w.subnets()}
	lb := *w.loadBalancer("web").LoadBalancerArn
	s.active(lb)
	describe := func() *elb.DescribeCapacityReservationOutput {
		return must(w.elb.DescribeCapacityReservation(ctx, &elb.DescribeCapacityReservationInput{LoadBalancerArn: &lb}))(w)
	}
	if none := describe(); none.MinimumLoadBalancerCapacity != nil || len(none.CapacityReservationState) != 0 || *none.DecreaseRequestsRemaining != 2 {
		t.Errorf("without a reservation: %+v", none)
	}
	w.admin("PUT", "profile", "base: ideal\nseconds:\n  lb.provision.alb: F(1)\n", http.StatusOK, nil)
	asked := must(w.elb.ModifyCapacityReservation(ctx, &elb.ModifyCapacityReservationInput{
		LoadBalancerArn: &lb, MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: new(int32(600))},
	}))(w)
	if z := asked.CapacityReservationState; len(z) != 3 || z[0].State.Code != types.CapacityReservationStateEnumPending || *z[0].EffectiveCapacityUnits != 0 {
		t.Errorf("just asked for: %+v", z)
	}
	state := func(code types.CapacityReservationStateEnum, zones int, each float64) func() bool {
		return func() bool {
			z := describe().CapacityReservationState
			return len(z) == zones && z[0].State.Code == code && *z[0].EffectiveCapacityUnits == each
		}
	}
	w.eventually("600 units in three zones", state(types.CapacityReservationStateEnumProvisioned, 3, 200))
	must(w.elb.SetSubnets(ctx, &elb.SetSubnetsInput{LoadBalancerArn: &lb, Subnets: s.subnets[:2]}))(w)
	if !state(types.CapacityReservationStateEnumRebalancing, 2, 300)() {
		t.Errorf("after a zone has gone: %+v", describe().CapacityReservationState)
	}
	w.eventually("600 units in two zones", state(types.CapacityReservationStateEnumProvisioned, 2, 300))
	must(w.elb.ModifyCapacityReservation(ctx, &elb.ModifyCapacityReservationInput{LoadBalancerArn: &lb, ResetCapacityReservation: new(true)}))(w)
	w.eventually("no reservation is left", func() bool { return len(describe().CapacityReservationState) == 0 })
}

// Pools of addresses come and go.
func TestAddressPools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: new("web"), Subnets: w.subnets(), IpamPools: &types.IpamPools{Ipv4IpamPoolId: new("ipam-pool-0a")}, CustomerOwnedIpv4Pool: new("ipv4pool-coip-0a"),
	}))(w).LoadBalancers[0]
	if *lb.IpamPools.Ipv4IpamPoolId != "ipam-pool-0a" || *lb.CustomerOwnedIpv4Pool != "ipv4pool-coip-0a" {
		t.Errorf("new load balancer: %+v", lb)
	}
	shown := func() *types.IpamPools {
		return must(w.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{"web"}}))(w).LoadBalancers[0].IpamPools
	}
	must(w.elb.ModifyIpPools(ctx, &elb.ModifyIpPoolsInput{LoadBalancerArn: lb.LoadBalancerArn, IpamPools: &types.IpamPools{Ipv4IpamPoolId: new("ipam-pool-0b")}}))(w)
	if got := shown(); got == nil || *got.Ipv4IpamPoolId != "ipam-pool-0b" {
		t.Errorf("changed: %+v", got)
	}
	must(w.elb.ModifyIpPools(ctx, &elb.ModifyIpPoolsInput{LoadBalancerArn: lb.LoadBalancerArn, RemoveIpamPools: []types.RemoveIpamPoolEnum{types.RemoveIpamPoolEnumIpv4}}))(w)
	if got := shown(); got != nil {
		t.Errorf("removed: %+v", got)
	}
	internal := *w.loadBalancer("internal").LoadBalancerArn
	_, err := w.elb.ModifyIpPools(ctx, &elb.ModifyIpPoolsInput{LoadBalancerArn: &internal, IpamPools: &types.IpamPools{Ipv4IpamPoolId: new("ipam-pool-0b")}})
	w.wantCode(err, "InvalidConfigurationRequest")
}

// Trust stores outlive the process, and so do the objects that they are made of: those are files, which can also be put there by hand.
func TestTrustStoresAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *world { return newWorld(t, func(c *aws.Config) { c.DataDir = dir }) }
	w := open()
	s := newShelf(w)
	must(w.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &s.other, MutualAuthentication: verify(&s.trust)}))(w)
	must(w.elb.AddTrustStoreRevocations(ctx, &elb.AddTrustStoreRevocationsInput{TrustStoreArn: &s.trust, RevocationContents: []types.RevocationContent{{S3Bucket: &s.bucket, S3Key: new("short.crl")}}}))(w)
	trust := func(w *world) types.TrustStore {
		return must(w.elb.DescribeTrustStores(ctx, &elb.DescribeTrustStoresInput{TrustStoreArns: []string{s.trust}}))(w).TrustStores[0]
	}
	want := trust(w)
	if err := w.emulator.Close(); err != nil {
		t.Fatal(err)
	}

	byHand := filepath.Join(dir, "objects", "by-hand")
	text, err := os.ReadFile(filepath.Join(dir, "objects", s.bucket, "pair.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(byHand, 0o700), os.WriteFile(filepath.Join(byHand, "ca.pem"), text, 0o600)); err != nil {
		t.Fatal(err)
	}
	again := open()
	if diff := cmp.Diff(want, trust(again), ignoreUnexported); diff != "" || *want.TotalRevokedEntries != 2 {
		t.Errorf("trust store (-before +after):\n%s", diff)
	}
	_, err = again.elb.DeleteTrustStore(ctx, &elb.DeleteTrustStoreInput{TrustStoreArn: &s.trust})
	again.wantCode(err, "TrustStoreInUse")
	changed := must(again.elb.ModifyTrustStore(ctx, &elb.ModifyTrustStoreInput{TrustStoreArn: &s.trust, CaCertificatesBundleS3Bucket: new("by-hand"), CaCertificatesBundleS3Key: new("ca.pem")}))(again)
	if n := *changed.TrustStores[0].NumberOfCaCertificates; n != 2 {
		t.Errorf("%d certificates", n)
	}
	// No name leads out of the folder.
	for _, key := range []string{"../account.json", "..%2f..%2faccount.json", "/etc/passwd"} {
		_, err := again.elb.ModifyTrustStore(ctx, &elb.ModifyTrustStoreInput{TrustStoreArn: &s.trust, CaCertificatesBundleS3Bucket: new("by-hand"), CaCertificatesBundleS3Key: &key})
		again.wantCode(err, "CaCertificatesBundleNotFound")
	}
	again.admin("PUT", "objects/by-hand/..%2fout", "text", http.StatusBadRequest, nil)
	again.admin("PUT", "objects/UPPER/key", "text", http.StatusBadRequest, nil)
	again.admin("PUT", "objects/by-hand/empty", "", http.StatusBadRequest, nil)
}
