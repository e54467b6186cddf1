package aws_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	acmtypes "github.com/aws/aws-sdk-go-v2/service/acm/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	rgt "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	rgttypes "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"
	"github.com/aws/aws-sdk-go-v2/service/shield"
	"github.com/aws/aws-sdk-go-v2/service/wafregional"
	wafregionaltypes "github.com/aws/aws-sdk-go-v2/service/wafregional/types"
	"github.com/aws/aws-sdk-go-v2/service/wafv2"
	wafv2types "github.com/aws/aws-sdk-go-v2/service/wafv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// owner signs with the account's own key.
var owner = credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, "")

// codes checks the code of each refusal, named by why it is refused.
func codes(t *testing.T, refused map[string]refusal) {
	t.Helper()
	for why, r := range refused {
		t.Run(why, func(t *testing.T) { (&world{T: t}).wantCode(r.err, r.code) })
	}
}

type refusal struct {
	err  error
	code string
}

func failed[T any](_ T, err error) error { return err }

const noCertificate = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"

// keyPair is a certificate for a name with its key, as PEM.
func keyPair(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := acm.NewFromConfig(w.config(owner))
	requested := *must(client.RequestCertificate(ctx, &acm.RequestCertificateInput{
		DomainName: new("Shop.example.com"), SubjectAlternativeNames: []string{"*.shop.example.com"}, ValidationMethod: acmtypes.ValidationMethodDns,
		IdempotencyToken: new("once"), Tags: []acmtypes.Tag{{Key: new("team"), Value: new("shop")}},
	}))(w).CertificateArn
	again := *must(client.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("shop.example.com"), IdempotencyToken: new("once")}))(w).CertificateArn
	if again != requested {
		t.Errorf("the same request made %s and %s", requested, again)
	}
	detail := must(client.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: &requested}))(w).Certificate
	if detail.InUseBy == nil {
		t.Error("the list of those who use a new certificate is left out")
	}
	options := detail.DomainValidationOptions
	if detail.Status != acmtypes.CertificateStatusPendingValidation || len(options) != 2 || *options[0].ResourceRecord.Name != *options[1].ResourceRecord.Name ||
		!strings.HasSuffix(*options[0].ResourceRecord.Name, ".shop.example.com.") || !strings.HasSuffix(*options[0].ResourceRecord.Value, ".acm-validations.aws.") {
		t.Errorf("a new request is %+v with %+v", detail, options)
	}

	certificate, key := keyPair(t, "imported.example.com")
	imported := *must(client.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certificate, PrivateKey: key}))(w).CertificateArn
	every := &acmtypes.Filters{KeyTypes: acmtypes.KeyAlgorithm("").Values()}
	var listed []string
	pages := acm.NewListCertificatesPaginator(client, &acm.ListCertificatesInput{Includes: every, MaxItems: new(int32(1))})
	for pages.HasMorePages() {
		for _, one := range must(pages.NextPage(ctx))(w).CertificateSummaryList {
			listed = append(listed, *one.CertificateArn)
		}
	}
	if !slices.Equal(listed, []string{requested, imported}) {
		t.Errorf("listed %v", listed)
	}
	if issued := must(client.ListCertificates(ctx, &acm.ListCertificatesInput{CertificateStatuses: []acmtypes.CertificateStatus{"ISSUED"}}))(w); len(issued.CertificateSummaryList) != 0 {
		t.Errorf("a key on a curve is listed without being asked for: %+v", issued.CertificateSummaryList)
	}

	lb := *w.loadBalancer("web").LoadBalancerArn
	must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: new(int32(443)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixed("404"),
		Certificates: []types.Certificate{{CertificateArn: &imported}},
	}))(w)
	must(client.AddTagsToCertificate(ctx, &acm.AddTagsToCertificateInput{CertificateArn: &requested, Tags: []acmtypes.Tag{{Key: new("env"), Value: new("test")}}}))(w)
	must(client.RemoveTagsFromCertificate(ctx, &acm.RemoveTagsFromCertificateInput{CertificateArn: &requested, Tags: []acmtypes.Tag{{Key: new("team")}}}))(w)
	tags := must(client.ListTagsForCertificate(ctx, &acm.ListTagsForCertificateInput{CertificateArn: &requested}))(w).Tags
	if len(tags) != 1 || *tags[0].Key != "env" {
		t.Errorf("tags %+v", tags)
	}
	codes(t, map[string]refusal{
		"no ARN":        {failed(client.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: new("certificate-of-mine")})), "InvalidArnException"},
		"none of it":    {failed(client.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: new(noCertificate)})), "ResourceNotFoundException"},
		"in use":        {failed(client.DeleteCertificate(ctx, &acm.DeleteCertificateInput{CertificateArn: &imported})), "ResourceInUseException"},
		"not yet":       {failed(client.GetCertificate(ctx, &acm.GetCertificateInput{CertificateArn: &requested})), "RequestInProgressException"},
		"no domain":     {failed(client.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("not a domain")})), "InvalidParameterException"},
		"a bad tag":     {failed(client.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("a.test"), Tags: []acmtypes.Tag{{Key: new("aws:a")}}})), "InvalidTagException"},
		"eleven names":  {failed(client.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("a.test"), SubjectAlternativeNames: strings.Fields("b.test c.test d.test e.test f.test g.test h.test i.test j.test k.test")})), "LimitExceededException"},
		"a bad token":   {failed(client.ListCertificates(ctx, &acm.ListCertificatesInput{NextToken: new("!")})), "InvalidArgsException"},
		"no such page":  {failed(client.ListCertificates(ctx, &acm.ListCertificatesInput{MaxItems: new(int32(1001))})), "ValidationException"},
		"not a key":     {failed(client.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certificate, PrivateKey: []byte("key")})), "ValidationException"},
		"not modelled":  {failed(client.RenewCertificate(ctx, &acm.RenewCertificateInput{CertificateArn: &requested})), "NotImplemented"},
		"another's key": {failed(client.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certificate, PrivateKey: key, CertificateArn: &requested})), "ValidationException"},
	})
	if w.emulator.NotModelled()["acm:RenewCertificate"] != 1 {
		t.Errorf("calls that are not modelled: %v", w.emulator.NotModelled())
	}
	must(client.DeleteCertificate(ctx, &acm.DeleteCertificateInput{CertificateArn: &requested}))(w)
}

func TestWebACLs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := *w.loadBalancer("web").LoadBalancerArn
	client := wafv2.NewFromConfig(w.config(owner))
	create := func(name string) *wafv2types.WebACLSummary {
		return must(client.CreateWebACL(ctx, &wafv2.CreateWebACLInput{
			Name: &name, Scope: wafv2types.ScopeRegional, DefaultAction: &wafv2types.DefaultAction{Allow: &wafv2types.AllowAction{}},
			VisibilityConfig: &wafv2types.VisibilityConfig{MetricName: &name},
		}))(w).Summary
	}
	first, second := create("first"), create("second")
	var names []string
	for marker := (*string)(nil); ; {
		page := must(client.ListWebACLs(ctx, &wafv2.ListWebACLsInput{Scope: wafv2types.ScopeRegional, Limit: new(int32(1)), NextMarker: marker}))(w)
		for _, one := range page.WebACLs {
			names = append(names, *one.Name)
		}
		if marker = page.NextMarker; marker == nil {
			break
		}
	}
	if !slices.Equal(names, []string{"first", "second"}) {
		t.Errorf("listed %v", names)
	}
	has := func(want string) {
		t.Helper()
		got := must(client.GetWebACLForResource(ctx, &wafv2.GetWebACLForResourceInput{ResourceArn: &lb}))(w).WebACL
		if (got == nil) != (want == "") || got != nil && *got.ARN != want {
			t.Errorf("the load balancer has web ACL %+v, want %q", got, want)
		}
	}
	has("")
	must(client.AssociateWebACL(ctx, &wafv2.AssociateWebACLInput{ResourceArn: &lb, WebACLArn: first.ARN}))(w)
	has(*first.ARN)
	must(client.AssociateWebACL(ctx, &wafv2.AssociateWebACLInput{ResourceArn: &lb, WebACLArn: second.ARN}))(w)
	has(*second.ARN)
	if of := must(client.ListResourcesForWebACL(ctx, &wafv2.ListResourcesForWebACLInput{WebACLArn: second.ARN}))(w).ResourceArns; !slices.Equal(of, []string{lb}) {
		t.Errorf("the web ACL is on %v", of)
	}
	gone := lb[:len(lb)-16] + "0123456789abcdef"
	codes(t, map[string]refusal{
		"in use":           {failed(client.DeleteWebACL(ctx, &wafv2.DeleteWebACLInput{Name: second.Name, Id: second.Id, LockToken: second.LockToken, Scope: "REGIONAL"})), "WAFAssociatedItemException"},
		"an old lock":      {failed(client.DeleteWebACL(ctx, &wafv2.DeleteWebACLInput{Name: first.Name, Id: first.Id, LockToken: new("00000000-0000-0000-0000-000000000000"), Scope: "REGIONAL"})), "WAFOptimisticLockException"},
		"no such web ACL":  {failed(client.AssociateWebACL(ctx, &wafv2.AssociateWebACLInput{ResourceArn: &lb, WebACLArn: new(*first.ARN + "0")})), "WAFNonexistentItemException"},
		"no such balancer": {failed(client.GetWebACLForResource(ctx, &wafv2.GetWebACLForResourceInput{ResourceArn: &gone})), "WAFNonexistentItemException"},
		"no balancer":      {failed(client.DisassociateWebACL(ctx, &wafv2.DisassociateWebACLInput{ResourceArn: new("arn:aws:s3:::bucket-with-a-name")})), "WAFInvalidParameterException"},
		"another scope":    {failed(client.ListWebACLs(ctx, &wafv2.ListWebACLsInput{Scope: wafv2types.ScopeCloudfront})), "WAFInvalidParameterException"},
	})
	must(client.DisassociateWebACL(ctx, &wafv2.DisassociateWebACLInput{ResourceArn: &lb}))(w)
	has("")
	must(client.DeleteWebACL(ctx, &wafv2.DeleteWebACLInput{Name: second.Name, Id: second.Id, LockToken: second.LockToken, Scope: "REGIONAL"}))(w)
}

// A web ACL that was just made is not everywhere yet.
func TestNewWebACLsNeedTime(t *testing.T) {
	t.Parallel()
	slow, err := profile.Load("pessimistic")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *aws.Config) { c.Profile = slow })
	client := wafv2.NewFromConfig(w.config(owner))
	made := must(client.CreateWebACL(ctx, &wafv2.CreateWebACLInput{
		Name: new("new"), Scope: wafv2types.ScopeRegional, DefaultAction: &wafv2types.DefaultAction{}, VisibilityConfig: &wafv2types.VisibilityConfig{MetricName: new("m")},
	}))(w).Summary
	lb := *w.loadBalancer("web").LoadBalancerArn
	_, err = client.AssociateWebACL(ctx, &wafv2.AssociateWebACLInput{ResourceArn: &lb, WebACLArn: made.ARN})
	w.wantCode(err, "WAFUnavailableEntityException")
}

func TestWebACLsOfTheOlderFirewall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := *w.loadBalancer("web").LoadBalancerArn
	client := wafregional.NewFromConfig(w.config(owner))
	token := must(client.GetChangeToken(ctx, &wafregional.GetChangeTokenInput{}))(w).ChangeToken
	in := &wafregional.CreateWebACLInput{
		Name: new("acl"), MetricName: new("acl"), ChangeToken: token, DefaultAction: &wafregionaltypes.WafAction{Type: wafregionaltypes.WafActionTypeAllow},
	}
	acl := must(client.CreateWebACL(ctx, in))(w).WebACL
	if got := must(client.GetWebACLForResource(ctx, &wafregional.GetWebACLForResourceInput{ResourceArn: &lb}))(w).WebACLSummary; got != nil {
		t.Errorf("before any association: %+v", got)
	}
	must(client.AssociateWebACL(ctx, &wafregional.AssociateWebACLInput{ResourceArn: &lb, WebACLId: acl.WebACLId}))(w)
	if got := must(client.GetWebACLForResource(ctx, &wafregional.GetWebACLForResourceInput{ResourceArn: &lb}))(w).WebACLSummary; got == nil || *got.WebACLId != *acl.WebACLId {
		t.Errorf("after the association: %+v", got)
	}
	codes(t, map[string]refusal{
		"token used twice": {failed(client.CreateWebACL(ctx, in)), "WAFStaleDataException"},
		"in use":           {failed(client.DeleteWebACL(ctx, &wafregional.DeleteWebACLInput{WebACLId: acl.WebACLId, ChangeToken: token})), "WAFReferencedItemException"},
		"no such web ACL":  {failed(client.AssociateWebACL(ctx, &wafregional.AssociateWebACLInput{ResourceArn: &lb, WebACLId: new("none")})), "WAFNonexistentItemException"},
		"no balancer":      {failed(client.DisassociateWebACL(ctx, &wafregional.DisassociateWebACLInput{ResourceArn: new("web")})), "WAFInvalidParameterException"},
	})
	must(client.DisassociateWebACL(ctx, &wafregional.DisassociateWebACLInput{ResourceArn: &lb}))(w)
	token = must(client.GetChangeToken(ctx, &wafregional.GetChangeTokenInput{}))(w).ChangeToken
	must(client.DeleteWebACL(ctx, &wafregional.DeleteWebACLInput{WebACLId: acl.WebACLId, ChangeToken: token}))(w)
}

func TestProtections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb := *w.loadBalancer("web").LoadBalancerArn
	client := shield.NewFromConfig(w.config(owner))
	if state := must(client.GetSubscriptionState(ctx, &shield.GetSubscriptionStateInput{}))(w).SubscriptionState; state != "INACTIVE" {
		t.Errorf("a new account is %s", state)
	}
	protect := func() error {
		return failed(client.CreateProtection(ctx, &shield.CreateProtectionInput{Name: new("web"), ResourceArn: &lb}))
	}
	w.wantCode(protect(), "ResourceNotFoundException")
	must(client.CreateSubscription(ctx, &shield.CreateSubscriptionInput{}))(w)
	if err := protect(); err != nil {
		t.Fatal(err)
	}
	protection := must(client.DescribeProtection(ctx, &shield.DescribeProtectionInput{ResourceArn: &lb}))(w).Protection
	if *protection.Name != "web" || !strings.HasPrefix(*protection.ProtectionArn, "arn:aws:shield::123456789012:protection/") {
		t.Errorf("protection %+v", protection)
	}
	if all := must(client.ListProtections(ctx, &shield.ListProtectionsInput{}))(w).Protections; len(all) != 1 {
		t.Errorf("protections %+v", all)
	}
	w.wantCode(protect(), "ResourceAlreadyExistsException")
	must(client.DeleteProtection(ctx, &shield.DeleteProtectionInput{ProtectionId: protection.Id}))(w)
	codes(t, map[string]refusal{
		"none":      {failed(client.DescribeProtection(ctx, &shield.DescribeProtectionInput{ResourceArn: &lb})), "ResourceNotFoundException"},
		"of what":   {failed(client.DescribeProtection(ctx, &shield.DescribeProtectionInput{})), "InvalidParameterException"},
		"a bucket":  {failed(client.CreateProtection(ctx, &shield.CreateProtectionInput{Name: new("a"), ResourceArn: new("arn:aws:s3:::a")})), "InvalidResourceException"},
		"gone once": {failed(client.DeleteProtection(ctx, &shield.DeleteProtectionInput{ProtectionId: protection.Id})), "ResourceNotFoundException"},
	})
}

func TestResourcesAreFoundByTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lb, group := *w.loadBalancer("web").LoadBalancerArn, w.targetGroup("api")
	tag := func(arn, key, value string) {
		must(w.elb.AddTags(ctx, &elb.AddTagsInput{ResourceArns: []string{arn}, Tags: []types.Tag{{Key: &key, Value: &value}}}))(w)
	}
	tag(lb, "team", "shop")
	tag(group, "team", "shop")
	tag(group, "env", "test")
	client := rgt.NewFromConfig(w.config(owner))
	find := func(in rgt.GetResourcesInput) (arns []string) {
		t.Helper()
		pages := rgt.NewGetResourcesPaginator(client, &in)
		for pages.HasMorePages() {
			for _, one := range must(pages.NextPage(ctx))(w).ResourceTagMappingList {
				arns = append(arns, *one.ResourceARN)
			}
		}
		return arns
	}
	team := rgttypes.TagFilter{Key: new("team"), Values: []string{"shop", "bank"}}
	for why, tt := range map[string]struct {
		in   rgt.GetResourcesInput
		want []string
	}{
		"by tag, page by page": {rgt.GetResourcesInput{TagFilters: []rgttypes.TagFilter{team}, ResourcesPerPage: new(int32(1))}, []string{lb, group}},
		"by type":              {rgt.GetResourcesInput{TagFilters: []rgttypes.TagFilter{team}, ResourceTypeFilters: []string{"elasticloadbalancing:targetgroup"}}, []string{group}},
		"by service":           {rgt.GetResourcesInput{ResourceTypeFilters: []string{"elasticloadbalancing"}}, []string{lb, group}},
		"both tags":            {rgt.GetResourcesInput{TagFilters: []rgttypes.TagFilter{team, {Key: new("env")}}}, []string{group}},
		"another value":        {rgt.GetResourcesInput{TagFilters: []rgttypes.TagFilter{{Key: new("team"), Values: []string{"bank"}}}}, nil},
		"by ARN":               {rgt.GetResourcesInput{ResourceARNList: []string{lb}}, []string{lb}},
	} {
		if got := find(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", why, got, tt.want)
		}
	}
	if none := must(client.GetResources(ctx, &rgt.GetResourcesInput{TagFilters: []rgttypes.TagFilter{{Key: new("nobody")}}}))(w); none.ResourceTagMappingList == nil {
		t.Error("the list of no resources is left out")
	}
	must(w.elb.RemoveTags(ctx, &elb.RemoveTagsInput{ResourceArns: []string{lb}, TagKeys: []string{"team"}}))(w)
	if got := find(rgt.GetResourcesInput{}); !slices.Contains(got, lb) {
		t.Errorf("a resource that once had tags is not listed: %v", got)
	}
	must(w.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &group}))(w)
	if got := find(rgt.GetResourcesInput{}); slices.Contains(got, group) {
		t.Errorf("a deleted resource is listed: %v", got)
	}
	codes(t, map[string]refusal{
		"a page of 0":  {failed(client.GetResources(ctx, &rgt.GetResourcesInput{ResourcesPerPage: new(int32(0))})), "InvalidParameterException"},
		"old token":    {failed(client.GetResources(ctx, &rgt.GetResourcesInput{PaginationToken: new("!")})), "PaginationTokenExpiredException"},
		"ARNs, filter": {failed(client.GetResources(ctx, &rgt.GetResourcesInput{ResourceARNList: []string{lb}, ResourceTypeFilters: []string{"ec2"}})), "InvalidParameterException"},
	})
}

// Services that speak JSON refuse in codes of their own.
func TestRefusalsInJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *aws.Config) {
		c.Policy = document(t, `{"Effect":"Allow","Action":"*"},{"Effect":"Deny","Action":["acm:Request*","elasticloadbalancing:SetWebAcl"]}`)
	})
	gone, err := w.emulator.STS().Issue("any", "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	list := func(id, secret, token string) error {
		return failed(acm.NewFromConfig(w.config(credentials.NewStaticCredentialsProvider(id, secret, token))).ListCertificates(ctx, &acm.ListCertificatesInput{}))
	}
	own := acm.NewFromConfig(w.config(owner))
	refused := map[string]refusal{
		"unknown key":    {list("AKIANOBODY", "guess", ""), "UnrecognizedClientException"},
		"wrong secret":   {list(aws.DefaultAccessKeyID, "guess", ""), "InvalidSignatureException"},
		"expired":        {list(gone.ID, gone.Secret, gone.Token), "ExpiredTokenException"},
		"denied":         {failed(own.RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: new("a.test")})), "AccessDeniedException"},
		"denied as well": {failed(wafv2.NewFromConfig(w.config(owner)).AssociateWebACL(ctx, &wafv2.AssociateWebACLInput{ResourceArn: new("arn:aws:elasticloadbalancing:x"), WebACLArn: new("arn:aws:wafv2:eu-west-1:x")})), "AccessDeniedException"},
	}
	codes(t, refused)
	for _, r := range refused {
		w.wantStatus(r.err, 400)
	}
	if _, err := w.emulator.Faults().Add(fault.Fault{Kind: fault.Throttle, Operations: []string{"tag:*", "acm:*"}}); err != nil {
		t.Fatal(err)
	}
	codes(t, map[string]refusal{
		"tagging": {failed(rgt.NewFromConfig(w.config(owner)).GetResources(ctx, &rgt.GetResourcesInput{})), "ThrottledException"},
		"acm":     {failed(own.ListCertificates(ctx, &acm.ListCertificatesInput{})), "ThrottlingException"},
	})
	for pattern, hits := range map[string]bool{
		"*": true, "*:Describe*": true, "cloudwatch:GetMetric*": true, "tag:GetResources": true, "ec2:Describe?pcs": true,
		"elbv2:Describe*": false, "monitoring:*": false, "elasticloadbalancing:FlyLoadBalancer": false, "EC2:*": false,
	} {
		_, err := w.emulator.AddFault(fault.Fault{Kind: fault.Throttle, Operations: []string{"*:*", pattern}})
		if hits != (err == nil) || err != nil && !strings.Contains(err.Error(), pattern) {
			t.Errorf("a fault for %s: %v", pattern, err)
		}
	}
}
