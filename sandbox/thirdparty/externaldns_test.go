package thirdparty

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var serviceKind = schema.GroupVersionKind{Version: "v1", Kind: "Service"}

// TestExternalDNS lets external-dns keep a hosted zone: an alias to the load balancer of an Ingress, through which
// clients reach it by name, and weighted records; what the cluster changes or removes follows.
func TestExternalDNS(t *testing.T) {
	w := newWorld(t)
	w.defineKinds(t)
	program := build(t, "external-dns", "sigs.k8s.io/external-dns")
	zone := w.newZone(t, "example.org")
	processes := []*process{
		w.startLockstep(t, "--controllers", "balancing"),
		w.start(t, "external-dns", program, "--kubeconfig", w.state.Kubeconfig, "--provider", "aws", "--source", "ingress", "--source", "service",
			"--domain-filter", "example.org", "--namespace", "names", "--registry", "txt", "--txt-owner-id", "sandbox", "--policy", "sync",
			"--interval", "2s", "--min-event-sync-interval", "1s", "--events", "--aws-zones-cache-duration", "0s", "--metrics-address", "127.0.0.1:"+freePort(t)),
	}
	manifests, err := os.ReadFile("testdata/names.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.kube.apply(t, string(manifests))

	eventually(t, "shop.example.org to lead to the application", func() error {
		version, err := w.version("shop.example.org")
		if err == nil && version != "v1" {
			err = fmt.Errorf("version %q answers", version)
		}
		return err
	}, processes...)
	alias := w.records(t, zone, "shop.example.org", types.RRTypeA)
	if len(alias) != 1 || alias[0].AliasTarget == nil {
		t.Errorf("shop.example.org is not one alias record: %+v", alias)
	}
	w.shares(t, processes, map[string][2]int{"blue": {20, 40}, "green": {60, 80}})
	for _, r := range w.records(t, zone, "api.example.org", types.RRTypeCname) {
		if r.TTL == nil || *r.TTL != 10 {
			t.Errorf("%s has not the TTL of its annotation: %+v", *r.SetIdentifier, r)
		}
	}

	w.kube.apply(t, strings.ReplaceAll(string(manifests), `aws-weight: "70"`, `aws-weight: "0"`))
	w.shares(t, processes, map[string][2]int{"blue": {100, 100}})

	w.kube.remove(t, serviceKind, "names", "blue", processes...)
	w.kube.remove(t, serviceKind, "names", "green", processes...)
	w.kube.remove(t, ingressKind, "names", "shop", processes...)
	eventually(t, "the zone to be as it was", func() error {
		left, err := w.route53.ListResourceRecordSets(context.Background(), &route53.ListResourceRecordSetsInput{HostedZoneId: &zone})
		if err == nil && len(left.ResourceRecordSets) > 2 { // SOA and NS are the zone's own
			err = fmt.Errorf("%w: %d record sets are left", errNotYet, len(left.ResourceRecordSets))
		}
		return err
	}, processes...)
	w.checkCalls(t, "external-dns", []string{"ListHostedZones", "ListResourceRecordSets", "ChangeResourceRecordSets"}, "Throttling")
}

// newZone makes a hosted zone and returns its id.
func (w *world) newZone(t *testing.T, name string) string {
	t.Helper()
	made, err := w.route53.CreateHostedZone(context.Background(), &route53.CreateHostedZoneInput{Name: &name, CallerReference: &w.name})
	if err != nil {
		t.Fatal(err)
	}
	return *made.HostedZone.Id
}

// records returns the record sets of a name and type.
func (w *world) records(t *testing.T, zone, name string, kind types.RRType) []types.ResourceRecordSet {
	t.Helper()
	out, err := w.route53.ListResourceRecordSets(context.Background(), &route53.ListResourceRecordSetsInput{HostedZoneId: &zone})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(out.ResourceRecordSets, func(r types.ResourceRecordSet) bool { return *r.Name != name+"." || r.Type != kind })
}

// shares waits until the answers for api.example.org are shared within the bounds, in percent, by the colours.
func (w *world) shares(t *testing.T, processes []*process, want map[string][2]int) {
	t.Helper()
	const questions = 200
	eventually(t, fmt.Sprintf("answers of %v", want), func() error {
		got := map[string]int{}
		for range questions {
			name, err := w.resolver().LookupCNAME(context.Background(), "api.example.org.")
			if err != nil {
				return err
			}
			got[strings.TrimSuffix(name, ".example.org.")]++
		}
		for colour, bounds := range want {
			if percent := got[colour] * 100 / questions; percent < bounds[0] || percent > bounds[1] {
				return fmt.Errorf("got %v of %d", got, questions)
			}
		}
		return nil
	}, processes...)
}
