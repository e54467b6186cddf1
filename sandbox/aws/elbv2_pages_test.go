package aws_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// pages reads page after page: the ids on the next one, false after the last.
type pages func() (ids []string, more bool)

// paged are the pages of a paginator of the SDK.
func paged[O any](w *world, p interface {
	HasMorePages() bool
	NextPage(context.Context, ...func(*elb.Options)) (*O, error)
}, ids func(*O) []string) pages {
	return func() ([]string, bool) {
		w.Helper()
		if !p.HasMorePages() {
			return nil, false
		}
		return ids(must(p.NextPage(ctx))(w)), true
	}
}

func idsOf[T any](list []T, id func(T) *string) (ids []string) {
	for _, one := range list {
		ids = append(ids, *id(one))
	}
	return ids
}

// listed is something that is listed in pages.
type listed struct {
	pages func(w *world, size int32) pages
	// add makes one more and returns its id; remove takes one away. Nil: what is listed never changes.
	add    func(w *world, number int) string
	remove func(w *world, id string)
	// shuffle changes what is there. May be nil.
	shuffle func(w *world, all []string)
}

// Whatever is made, changed and deleted between two pages: nothing is on two of them, and what was there all the time is on one.
func TestEveryPaginatorOfELBv2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, kind := range newShelf(w).listings() {
		for _, size := range []int32{1, 3, 7} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				w := &world{T: t, emulator: w.emulator, endpoint: w.endpoint, elb: w.elb}
				kind.readAll(w, size)
			})
		}
	}
}

func (l listed) readAll(w *world, size int32) {
	w.Helper()
	count := 0
	add := func() string {
		count++
		return l.add(w, int(size)*1000+count)
	}
	var staying, passing []string
	if l.add != nil {
		for range 6 {
			passing = append(passing, add())
			staying = append(staying, add())
		}
	}
	seen := map[string]int{}
	next := l.pages(w, size)
	for number := 0; ; number++ {
		ids, more := next()
		if !more {
			break
		}
		if len(ids) > int(size) {
			w.Fatalf("page %d has %d, more than %d", number, len(ids), size)
		}
		for _, id := range ids {
			seen[id]++
		}
		if l.add == nil || number > 20 {
			continue
		}
		passing = append(passing, add())
		l.remove(w, passing[0])
		passing = passing[1:]
		if l.shuffle != nil {
			l.shuffle(w, slices.Concat(staying, passing))
		}
	}
	for id, times := range seen {
		if times > 1 {
			w.Errorf("%s is on %d pages", id, times)
		}
	}
	for _, id := range staying {
		if seen[id] == 0 {
			w.Errorf("%s was there all the time and is on no page", id)
		}
	}
	if len(seen) == 0 {
		w.Error("nothing is listed")
	}
	if l.add != nil {
		for _, id := range slices.Concat(staying, passing) {
			l.remove(w, id)
		}
	}
}

// shelf is what listed things belong to.
type shelf struct {
	*scene
	other string // a listener with certificates
	store string // a trust store without users
}

func newShelf(w *world) *shelf {
	w.Helper()
	s := &shelf{scene: &scene{world: w, subnets: w.subnets(), vpcID: w.vpc(), bucket: "certificates"}}
	s.makeObjects()
	_, list := s.authority(2)
	s.admin("PUT", "objects/certificates/short.crl", list, http.StatusNoContent, nil)
	s.alb = *s.loadBalancer("shelf").LoadBalancerArn
	s.http = s.listener(s.alb, 80, fixed("200"))
	s.other = s.secured(s.alb, 443, types.ProtocolEnumHttps, fixed("200"))
	s.store = s.trustStore("store")
	return s
}

func (s *shelf) listings() map[string]listed {
	return map[string]listed{
		"LoadBalancers": s.balancers(), "TargetGroups": s.targetGroups(), "Listeners": s.listeners(), "Rules": s.rules(),
		"ListenerCertificates": s.certificates(), "TrustStores": s.trustStores(), "TrustStoreAssociations": s.associations(),
		"TrustStoreRevocations": s.revocations(),
		"AccountLimits": {pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeAccountLimitsPaginator(w.elb, &elb.DescribeAccountLimitsInput{PageSize: &size}), func(o *elb.DescribeAccountLimitsOutput) []string {
				return idsOf(o.Limits, func(l types.Limit) *string { return l.Name })
			})
		}},
		"SSLPolicies": {pages: func(w *world, size int32) pages { return policies(w, size) }},
	}
}

// policies pages by hand: the SDK has no paginator.
func policies(w *world, size int32) pages {
	in, done := &elb.DescribeSSLPoliciesInput{PageSize: &size}, false
	return func() ([]string, bool) {
		if done {
			return nil, false
		}
		out := must(w.elb.DescribeSSLPolicies(ctx, in))(w)
		in.Marker, done = out.NextMarker, out.NextMarker == nil
		return idsOf(out.SslPolicies, func(p types.SslPolicy) *string { return p.Name }), true
	}
}

func (s *shelf) balancers() listed {
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeLoadBalancersPaginator(w.elb, &elb.DescribeLoadBalancersInput{PageSize: &size}), func(o *elb.DescribeLoadBalancersOutput) []string {
				return idsOf(o.LoadBalancers, func(v types.LoadBalancer) *string { return v.LoadBalancerArn })
			})
		},
		add: func(w *world, number int) string {
			return *must(w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
				Name: new(fmt.Sprint(number%7, "-", number)), Type: types.LoadBalancerTypeEnumNetwork, Subnets: s.subnets[:1], Scheme: types.LoadBalancerSchemeEnumInternal,
			}))(w).LoadBalancers[0].LoadBalancerArn
		},
		remove: func(w *world, id string) {
			must(w.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &id}))(w)
		},
	}
}

func (s *shelf) targetGroups() listed {
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeTargetGroupsPaginator(w.elb, &elb.DescribeTargetGroupsInput{PageSize: &size}), func(o *elb.DescribeTargetGroupsOutput) []string {
				return idsOf(o.TargetGroups, func(v types.TargetGroup) *string { return v.TargetGroupArn })
			})
		},
		add: func(w *world, number int) string {
			return *must(w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new(fmt.Sprint(number%7, "-", number)), Protocol: types.ProtocolEnumTcp, Port: new(int32(80)), VpcId: &s.vpcID}))(w).TargetGroups[0].TargetGroupArn
		},
		remove: func(w *world, id string) {
			must(w.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: &id}))(w)
		},
	}
}

func (s *shelf) listeners() listed {
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeListenersPaginator(w.elb, &elb.DescribeListenersInput{LoadBalancerArn: &s.alb, PageSize: &size}), func(o *elb.DescribeListenersOutput) []string {
				return idsOf(o.Listeners, func(v types.Listener) *string { return v.ListenerArn })
			})
		},
		add: func(w *world, number int) string { return w.listener(s.alb, int32(number), fixed("200")) },
		remove: func(w *world, id string) {
			must(w.elb.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: &id}))(w)
		},
	}
}

// rules are listed by priority, and all priorities change between two pages.
func (s *shelf) rules() listed {
	base := int32(0)
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeRulesPaginator(w.elb, &elb.DescribeRulesInput{ListenerArn: &s.http, PageSize: &size}), func(o *elb.DescribeRulesOutput) []string {
				return idsOf(o.Rules, func(v types.Rule) *string { return v.RuleArn })
			})
		},
		add: func(w *world, number int) string { return w.rule(s.http, int32(number), fixed("200")) },
		remove: func(w *world, id string) {
			must(w.elb.DeleteRule(ctx, &elb.DeleteRuleInput{RuleArn: &id}))(w)
		},
		shuffle: func(w *world, all []string) {
			base += 100
			in := &elb.SetRulePrioritiesInput{}
			for i, id := range all {
				in.RulePriorities = append(in.RulePriorities, types.RulePriorityPair{RuleArn: &id, Priority: new(20_000 + base - int32(i))})
			}
			must(w.elb.SetRulePriorities(ctx, in))(w)
		},
	}
}

func (s *shelf) certificates() listed {
	one := func(arn string) []types.Certificate { return []types.Certificate{{CertificateArn: &arn}} }
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeListenerCertificatesPaginator(w.elb, &elb.DescribeListenerCertificatesInput{ListenerArn: &s.other, PageSize: &size}), func(o *elb.DescribeListenerCertificatesOutput) (ids []string) {
				for _, c := range o.Certificates { // the default one is there twice, once as such
					ids = append(ids, fmt.Sprint(*c.CertificateArn, map[bool]string{true: " by default"}[*c.IsDefault]))
				}
				return ids
			})
		},
		add: func(w *world, number int) string {
			arn := fmt.Sprintf("arn:aws:iam::123456789012:server-certificate/%d-%d", number%7, number)
			must(w.elb.AddListenerCertificates(ctx, &elb.AddListenerCertificatesInput{ListenerArn: &s.other, Certificates: one(arn)}))(w)
			return arn
		},
		remove: func(w *world, id string) {
			must(w.elb.RemoveListenerCertificates(ctx, &elb.RemoveListenerCertificatesInput{ListenerArn: &s.other, Certificates: one(id)}))(w)
		},
	}
}

func (s *shelf) trustStores() listed {
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeTrustStoresPaginator(w.elb, &elb.DescribeTrustStoresInput{PageSize: &size}), func(o *elb.DescribeTrustStoresOutput) []string {
				return idsOf(o.TrustStores, func(v types.TrustStore) *string { return v.TrustStoreArn })
			})
		},
		add: func(w *world, number int) string {
			return (&scene{world: w, bucket: s.bucket}).trustStore(fmt.Sprint(number%7, "-", number))
		},
		remove: func(w *world, id string) {
			must(w.elb.DeleteTrustStore(ctx, &elb.DeleteTrustStoreInput{TrustStoreArn: &id}))(w)
		},
	}
}

func (s *shelf) associations() listed {
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeTrustStoreAssociationsPaginator(w.elb, &elb.DescribeTrustStoreAssociationsInput{TrustStoreArn: &s.trust, PageSize: &size}), func(o *elb.DescribeTrustStoreAssociationsOutput) []string {
				return idsOf(o.TrustStoreAssociations, func(v types.TrustStoreAssociation) *string { return v.ResourceArn })
			})
		},
		add: func(w *world, number int) string {
			return *must(w.elb.CreateListener(ctx, &elb.CreateListenerInput{
				LoadBalancerArn: &s.alb, Port: new(int32(20_000 + number)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixed("200"),
				Certificates: []types.Certificate{{CertificateArn: &s.certificate}}, MutualAuthentication: verify(&s.trust),
			}))(w).Listeners[0].ListenerArn
		},
		remove: s.listeners().remove,
	}
}

func (s *shelf) revocations() listed {
	return listed{
		pages: func(w *world, size int32) pages {
			return paged(w, elb.NewDescribeTrustStoreRevocationsPaginator(w.elb, &elb.DescribeTrustStoreRevocationsInput{TrustStoreArn: &s.store, PageSize: &size}), func(o *elb.DescribeTrustStoreRevocationsOutput) (ids []string) {
				for _, v := range o.TrustStoreRevocations {
					ids = append(ids, fmt.Sprint(*v.RevocationId))
				}
				return ids
			})
		},
		add: func(w *world, _ int) string {
			return fmt.Sprint(*must(w.elb.AddTrustStoreRevocations(ctx, &elb.AddTrustStoreRevocationsInput{
				TrustStoreArn: &s.store, RevocationContents: []types.RevocationContent{{S3Bucket: &s.bucket, S3Key: new("short.crl")}},
			}))(w).TrustStoreRevocations[0].RevocationId)
		},
		remove: func(w *world, id string) {
			var number int64
			if _, err := fmt.Sscan(id, &number); err != nil {
				w.Fatal(err)
			}
			must(w.elb.RemoveTrustStoreRevocations(ctx, &elb.RemoveTrustStoreRevocationsInput{TrustStoreArn: &s.store, RevocationIds: []int64{number}}))(w)
		},
	}
}
