package aws_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	acmtypes "github.com/aws/aws-sdk-go-v2/service/acm/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	names "github.com/lockstep-delivery/lockstep/sandbox/aws/route53"
)

// zoned is a world with a hosted zone.
type zoned struct {
	*world
	client *route53.Client
	zone   string
}

func newZone(t *testing.T, name string, change ...func(*aws.Config)) *zoned {
	t.Helper()
	w := newWorld(t, change...)
	client := route53.NewFromConfig(w.config(owner))
	made := must(client.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: &name, CallerReference: new(name)}))(w)
	if made.ChangeInfo.Status != types.ChangeStatusPending || !strings.HasSuffix(*made.Location, *made.HostedZone.Id) || len(made.DelegationSet.NameServers) != 4 {
		t.Errorf("a new zone: %+v at %v", made, made.Location)
	}
	return &zoned{w, client, *made.HostedZone.Id}
}

// set is a record set with a TTL of 60 s; a weight below 0 is none.
func set(name, kind string, weight int64, identifier string, values ...string) *types.ResourceRecordSet {
	s := &types.ResourceRecordSet{Name: &name, Type: types.RRType(kind), TTL: new(int64(60))}
	for _, value := range values {
		s.ResourceRecords = append(s.ResourceRecords, types.ResourceRecord{Value: &value})
	}
	if weight >= 0 {
		s.Weight, s.SetIdentifier = &weight, &identifier
	}
	return s
}

func alias(name, target, zone string, evaluate bool) *types.ResourceRecordSet {
	return &types.ResourceRecordSet{Name: &name, Type: types.RRTypeA, AliasTarget: &types.AliasTarget{DNSName: &target, HostedZoneId: &zone, EvaluateTargetHealth: evaluate}}
}

func (z *zoned) change(changes ...types.Change) (*types.ChangeInfo, error) {
	out, err := z.client.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &z.zone, ChangeBatch: &types.ChangeBatch{Changes: changes}})
	if err != nil {
		return nil, err
	}
	return out.ChangeInfo, nil
}

func create(s *types.ResourceRecordSet) types.Change {
	return types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: s}
}

func remove(s *types.ResourceRecordSet) types.Change {
	return types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: s}
}

func upsert(s *types.ResourceRecordSet) types.Change {
	return types.Change{Action: types.ChangeActionUpsert, ResourceRecordSet: s}
}

// lookup shows an answer in one line; draws are as they are given.
func (z *zoned) lookup(name, kind string, draw int) string {
	a := z.emulator.Route53().Lookup(name, kind, func(n int) int { return min(draw, n-1) })
	switch a.Outcome {
	case names.Answered:
		return fmt.Sprint(a.Type, " ", strings.Join(a.Values, " "))
	case names.Aliased:
		return "alias " + a.Alias
	case names.NoData:
		return "no data"
	case names.NoName:
		return "no name"
	}
	return "refused"
}

func TestRecordsAreListedAndAnswered(t *testing.T) {
	t.Parallel()
	z := newZone(t, "Example.com")
	info := must(z.change(
		create(set("www.example.com", "A", -1, "", "192.0.2.1", "192.0.2.2")),
		create(set("*.example.com", "TXT", -1, "", `"any"`)),
		create(set("api.example.com", "A", 10, "old", "192.0.2.3")),
		create(set("api.example.com", "A", 0, "none", "192.0.2.9")),
		create(set("api.example.com", "A", 90, "new", "192.0.2.4")),
		create(set("even.example.com", "A", 0, "a", "192.0.2.5")),
		create(set("even.example.com", "A", 0, "b", "192.0.2.6")),
		create(set("short.example.com", "CNAME", -1, "", "www.example.net.")),
		create(alias("same.example.com", "www.example.com", z.zone, false)),
	))(z.world)
	if state := must(z.client.GetChange(ctx, &route53.GetChangeInput{Id: info.Id}))(z.world).ChangeInfo.Status; state != types.ChangeStatusInsync {
		t.Errorf("the change is %s in an ideal world", state)
	}
	var listed []string
	pages := route53.NewListResourceRecordSetsPaginator(z.client, &route53.ListResourceRecordSetsInput{HostedZoneId: &z.zone, MaxItems: new(int32(2))})
	for pages.HasMorePages() {
		for _, one := range must(pages.NextPage(ctx))(z.world).ResourceRecordSets {
			name := *one.Name + " " + string(one.Type)
			if one.SetIdentifier != nil {
				name += " " + *one.SetIdentifier
			}
			listed = append(listed, name)
		}
	}
	want := []string{
		"example.com. NS", "example.com. SOA", `\052.example.com. TXT`, "api.example.com. A new", "api.example.com. A none", "api.example.com. A old",
		"even.example.com. A a", "even.example.com. A b", "same.example.com. A", "short.example.com. CNAME", "www.example.com. A",
	}
	if !slices.Equal(listed, want) {
		t.Errorf("listed\n%q, want\n%q", listed, want)
	}
	for _, tt := range []struct {
		why, name, kind string
		draw            int
		want            string
	}{
		{"simple", "WWW.example.com.", "A", 0, "A 192.0.2.1 192.0.2.2"},
		{"the first 90 of 100", "api.example.com", "A", 89, "A 192.0.2.4"},
		{"the last 10 of 100", "api.example.com", "A", 90, "A 192.0.2.3"},
		{"all weights 0", "even.example.com", "A", 1, "A 192.0.2.6"},
		{"through a CNAME", "short.example.com", "A", 0, "CNAME www.example.net."},
		{"through an alias", "same.example.com", "A", 0, "A 192.0.2.1 192.0.2.2"},
		{"of a wildcard", "a.b.example.com", "TXT", 0, `TXT "any"`},
		{"another type", "www.example.com", "AAAA", 0, "no data"},
		{"another zone", "www.example.org", "A", 0, "refused"},
	} {
		if got := z.lookup(tt.name, tt.kind, tt.draw); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.why, got, tt.want)
		}
	}
	must(z.change(remove(set("*.example.com", "TXT", -1, "", `"any"`)), upsert(set("api.example.com", "A", 255, "none", "192.0.2.9"))))(z.world)
	if got := z.lookup("b.example.com", "TXT", 0); got != "no name" {
		t.Errorf("after the wildcard is gone: %s", got)
	}
}

func TestAliasesOfLoadBalancers(t *testing.T) {
	t.Parallel()
	z := newZone(t, "example.com")
	lb := z.loadBalancer("web")
	_, err := z.change(create(alias("shop.example.com", *lb.DNSName, "Z00000000000000000000", true)))
	z.wantCode(err, "InvalidChangeBatch")
	must(z.change(create(alias("shop.example.com", "dualstack."+*lb.DNSName+".", *lb.CanonicalHostedZoneId, true))))(z.world)
	if got := z.lookup("shop.example.com", "A", 0); got != "alias "+strings.ToLower(*lb.DNSName) {
		t.Errorf("answered %s", got)
	}
}

func TestBatchesThatCannotBe(t *testing.T) {
	t.Parallel()
	z := newZone(t, "example.com")
	www := set("www.example.com", "A", -1, "", "192.0.2.1")
	must(z.change(create(www)))(z.world)
	for _, tt := range []struct {
		why     string
		changes []types.Change
		code    string
		words   string // that callers look for
	}{
		{"there already", []types.Change{create(www)}, "InvalidChangeBatch", "it already exists"},
		{"not there", []types.Change{remove(set("gone.example.com", "A", -1, "", "192.0.2.1"))}, "InvalidChangeBatch", "it was not found"},
		{"other values", []types.Change{remove(set("www.example.com", "A", -1, "", "192.0.2.7"))}, "InvalidChangeBatch", "do not match the current values"},
		{"all or nothing", []types.Change{create(set("a.example.com", "A", -1, "", "192.0.2.1")), create(www)}, "InvalidChangeBatch", "it already exists"},
		{"another zone", []types.Change{create(set("www.example.org", "A", -1, "", "192.0.2.1"))}, "InvalidChangeBatch", "not permitted in zone"},
		{"simple and weighted", []types.Change{create(set("www.example.com", "A", 1, "x", "192.0.2.1"))}, "InvalidChangeBatch", "cannot be mixed"},
		{"CNAME beside others", []types.Change{create(set("www.example.com", "CNAME", -1, "", "a.test"))}, "InvalidChangeBatch", "conflicts with other records"},
		{"CNAME at the apex", []types.Change{create(set("example.com", "CNAME", -1, "", "a.test"))}, "InvalidChangeBatch", "at apex"},
		{"no address", []types.Change{create(set("a.example.com", "A", -1, "", "here"))}, "InvalidChangeBatch", "IPv4"},
		{"alias of nothing", []types.Change{create(alias("b.example.com", "none.example.com", z.zone, false))}, "InvalidChangeBatch", "was not found"},
		{"weight 256", []types.Change{create(set("a.example.com", "A", 256, "x", "192.0.2.1"))}, "InvalidInput", ""},
		{"no TTL", []types.Change{create(&types.ResourceRecordSet{Name: new("a.example.com"), Type: "A"})}, "InvalidInput", ""},
		{"health check", []types.Change{create(&types.ResourceRecordSet{Name: new("a.example.com"), Type: "A", HealthCheckId: new("x")})}, "NoSuchHealthCheck", ""},
	} {
		_, err := z.change(tt.changes...)
		t.Run(tt.why, func(t *testing.T) {
			(&world{T: t}).wantCode(err, tt.code)
			if !strings.Contains(err.Error(), tt.words) {
				t.Errorf("the error %q does not say %q", err, tt.words)
			}
		})
	}
	if got := z.lookup("a.example.com", "A", 0); got != "no name" {
		t.Errorf("a part of a refused batch is answered: %s", got)
	}
	apex := must(z.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &z.zone, MaxItems: new(int32(1))}))(z.world)
	_, err := z.change(remove(&apex.ResourceRecordSets[0]))
	z.wantCode(err, "InvalidChangeBatch")

	other := "Z00000000000000000000"
	refused := map[string]refusal{
		"not empty":        {failed(z.client.DeleteHostedZone(ctx, &route53.DeleteHostedZoneInput{Id: &z.zone})), "HostedZoneNotEmpty"},
		"same reference":   {failed(z.client.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: new("b.test"), CallerReference: new("example.com")})), "HostedZoneAlreadyExists"},
		"no domain":        {failed(z.client.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: new("a..b"), CallerReference: new("x")})), "InvalidDomainName"},
		"no zone":          {failed(z.client.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: &other})), "NoSuchHostedZone"},
		"no zone to list":  {failed(z.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &other})), "NoSuchHostedZone"},
		"no change":        {failed(z.client.GetChange(ctx, &route53.GetChangeInput{Id: new("C000")})), "NoSuchChange"},
		"type, no name":    {failed(z.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &z.zone, StartRecordType: "A"})), "InvalidInput"},
		"a bad marker":     {failed(z.client.ListHostedZones(ctx, &route53.ListHostedZonesInput{Marker: new("x")})), "InvalidInput"},
		"not modelled yet": {failed(z.client.ListHealthChecks(ctx, &route53.ListHealthChecksInput{})), "NotImplemented"},
	}
	codes(t, refused)
	must(z.change(remove(www)))(z.world)
	must(z.client.DeleteHostedZone(ctx, &route53.DeleteHostedZoneInput{Id: &z.zone}))(z.world)
}

func TestZonesAreListed(t *testing.T) {
	t.Parallel()
	z := newZone(t, "b.test")
	for _, name := range []string{"c.test", "a.test", "a.example"} {
		must(z.client.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: &name, CallerReference: &name}))(z.world)
	}
	var ids, byName []string
	pages := route53.NewListHostedZonesPaginator(z.client, &route53.ListHostedZonesInput{MaxItems: new(int32(3))})
	for pages.HasMorePages() {
		for _, one := range must(pages.NextPage(ctx))(z.world).HostedZones {
			ids = append(ids, *one.Id)
		}
	}
	if len(ids) != 4 || !slices.IsSorted(ids) {
		t.Errorf("zones %v", ids)
	}
	in := &route53.ListHostedZonesByNameInput{MaxItems: new(int32(1)), DNSName: new("a.test")}
	for {
		page := must(z.client.ListHostedZonesByName(ctx, in))(z.world)
		byName = append(byName, *page.HostedZones[0].Name)
		if in.DNSName, in.HostedZoneId = page.NextDNSName, page.NextHostedZoneId; !page.IsTruncated {
			break
		}
	}
	if !slices.Equal(byName, []string{"a.test.", "b.test.", "c.test."}) {
		t.Errorf("zones by name %v", byName)
	}
	id := strings.TrimPrefix(z.zone, "/hostedzone/")
	must(z.client.ChangeTagsForResource(ctx, &route53.ChangeTagsForResourceInput{ResourceId: &id, ResourceType: "hostedzone", AddTags: []types.Tag{{Key: new("team"), Value: new("shop")}}}))(z.world)
	sets := must(z.client.ListTagsForResources(ctx, &route53.ListTagsForResourcesInput{ResourceIds: []string{id}, ResourceType: "hostedzone"}))(z.world).ResourceTagSets
	if len(sets) != 1 || len(sets[0].Tags) != 1 || *sets[0].Tags[0].Value != "shop" {
		t.Errorf("tags %+v", sets)
	}
}

// Records are answered when their change is in sync, and a certificate is issued when its record is answered.
func TestChangesNeedTime(t *testing.T) {
	t.Parallel()
	slow, err := profile.Load("pessimistic")
	if err != nil {
		t.Fatal(err)
	}
	z := newZone(t, "example.com", func(c *aws.Config) { c.Profile, c.Scale = slow, 0.001 })
	changed := time.Now()
	info := must(z.change(create(set("www.example.com", "A", -1, "", "192.0.2.1"))))(z.world)
	if info.Status != types.ChangeStatusPending {
		t.Errorf("a new change is %s", info.Status)
	}
	// The profile says 30 s at least, scaled to 30 ms.
	if got := z.lookup("www.example.com", "A", 0); got != "no name" && time.Since(changed) < 30*time.Millisecond {
		t.Errorf("a pending change is answered: %s", got)
	}
	waiter := route53.NewResourceRecordSetsChangedWaiter(z.client, func(o *route53.ResourceRecordSetsChangedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 50*time.Millisecond
	})
	if err := waiter.Wait(ctx, &route53.GetChangeInput{Id: info.Id}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := z.lookup("www.example.com", "A", 0); got != "A 192.0.2.1" {
		t.Errorf("a change in sync is not answered: %s", got)
	}

	certificates := acm.NewFromConfig(z.config(owner))
	arn := must(certificates.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("example.com"), ValidationMethod: acmtypes.ValidationMethodDns}))(z.world).CertificateArn
	describe := func() *acmtypes.CertificateDetail {
		return must(certificates.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: arn}))(z.world).Certificate
	}
	record := describe().DomainValidationOptions[0].ResourceRecord
	must(z.change(create(set(*record.Name, "CNAME", -1, "", *record.Value))))(z.world)
	validated := acm.NewCertificateValidatedWaiter(certificates, func(o *acm.CertificateValidatedWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 100*time.Millisecond
	})
	if err := validated.Wait(ctx, &acm.DescribeCertificateInput{CertificateArn: arn}, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for late := time.After(20 * time.Second); describe().IssuedAt == nil; {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("the certificate is still %s", describe().Status)
		}
	}
	if _, ok := z.emulator.Route53().Visible(*record.Name, *record.Value); !ok {
		t.Error("the certificate was issued before its record could be seen")
	}
}
