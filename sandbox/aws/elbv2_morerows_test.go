package aws_test

import (
	"fmt"
	"slices"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

func (s *scene) createRule(change func(*elb.CreateRuleInput)) *elb.CreateRuleInput {
	in := &elb.CreateRuleInput{ListenerArn: &s.http, Priority: new(int32(9)), Conditions: path("/x"), Actions: fixed("200")}
	change(in)
	return in
}

func (s *scene) createRuleRows() []provoked {
	create := func(code string, change func(*elb.CreateRuleInput)) provoked {
		return refused(code, s.elb.CreateRule, s.createRule(change))
	}
	rows := []provoked{
		create("InvalidConfigurationRequest", func(in *elb.CreateRuleInput) { in.Conditions = slices.Repeat(path("/x"), 2) }),
		create("ListenerNotFound", func(in *elb.CreateRuleInput) { in.ListenerArn = gone(s.http) }),
		create("PriorityInUse", func(in *elb.CreateRuleInput) { in.Priority = new(int32(5)) }),
		create("TooManyTags", func(in *elb.CreateRuleInput) { in.Tags = manyTags(51) }),
		faulted("TooManyTargetGroups", "a rule makes no target group", s.elb.CreateRule, s.createRule(func(in *elb.CreateRuleInput) {
			in.ListenerArn, in.Priority = &s.https, new(int32(1))
		})),
	}
	for code, actions := range s.wrongActions() {
		rows = append(rows, create(code, func(in *elb.CreateRuleInput) { in.Actions = actions }))
	}
	// The call that is right is made once without the fault and once with it: at another priority each time.
	i := slices.IndexFunc(rows, func(r provoked) bool { return r.byFault != "" })
	priority := int32(0)
	rows[i].call = func() error {
		priority++
		_, err := s.elb.CreateRule(ctx, s.createRule(func(in *elb.CreateRuleInput) { in.ListenerArn, in.Priority = &s.https, &priority }))
		return err
	}
	return rows
}

func (s *scene) modifyRuleRows() []provoked {
	rows := []provoked{
		refused("OperationNotPermitted", s.elb.ModifyRule, &elb.ModifyRuleInput{RuleArn: &s.byDefault, Actions: fixed("200")}),
		refused("RuleNotFound", s.elb.ModifyRule, &elb.ModifyRuleInput{RuleArn: gone(s.rule), Actions: fixed("200")}),
	}
	for code, actions := range s.wrongActions() {
		rows = append(rows, refused(code, s.elb.ModifyRule, &elb.ModifyRuleInput{RuleArn: &s.rule, Actions: actions}))
	}
	return rows
}

func (s *scene) ruleRows() []provoked {
	priorities := func(code, rule string, priority int32) provoked {
		return refused(code, s.elb.SetRulePriorities, &elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: &rule, Priority: &priority}}})
	}
	return []provoked{
		refused("OperationNotPermitted", s.elb.DeleteRule, &elb.DeleteRuleInput{RuleArn: &s.byDefault}),
		refused("RuleNotFound", s.elb.DeleteRule, &elb.DeleteRuleInput{RuleArn: gone(s.rule)}),
		priorities("OperationNotPermitted", s.byDefault, 7),
		priorities("RuleNotFound", *gone(s.rule), 7),
		priorities("PriorityInUse", s.rule, 6),
		refused("ListenerNotFound", s.elb.DescribeRules, &elb.DescribeRulesInput{ListenerArn: gone(s.http)}),
		refused("RuleNotFound", s.elb.DescribeRules, &elb.DescribeRulesInput{RuleArns: []string{s.rule, *gone(s.rule)}}),
		faulted("UnsupportedProtocol", protocols, s.elb.DescribeRules, &elb.DescribeRulesInput{ListenerArn: &s.http}),
	}
}

func (s *scene) groupRows() []provoked {
	create := func(code string, change func(*elb.CreateTargetGroupInput)) provoked {
		in := &elb.CreateTargetGroupInput{Name: new("new"), Protocol: types.ProtocolEnumHttp, Port: new(int32(80)), VpcId: &s.vpcID, TargetType: types.TargetTypeEnumIp}
		change(in)
		return refused(code, s.elb.CreateTargetGroup, in)
	}
	return []provoked{
		create("DuplicateTargetGroupName", func(in *elb.CreateTargetGroupInput) { in.Name = new("used") }),
		create("InvalidConfigurationRequest", func(in *elb.CreateTargetGroupInput) { in.HealthCheckProtocol = types.ProtocolEnumTcp }),
		create("TooManyTags", func(in *elb.CreateTargetGroupInput) { in.Tags = manyTags(51) }),
		refused("InvalidConfigurationRequest", s.elb.ModifyTargetGroup, &elb.ModifyTargetGroupInput{TargetGroupArn: &s.used, HealthCheckProtocol: types.ProtocolEnumTcp}),
		refused("TargetGroupNotFound", s.elb.ModifyTargetGroup, &elb.ModifyTargetGroupInput{TargetGroupArn: gone(s.used), HealthCheckPath: new("/")}),
		refused("InvalidConfigurationRequest", s.elb.ModifyTargetGroupAttributes, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &s.used, Attributes: groupAttribute("deregistration_delay.timeout_seconds", "3601")}),
		refused("TargetGroupNotFound", s.elb.ModifyTargetGroupAttributes, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: gone(s.used), Attributes: groupAttribute("stickiness.enabled", "true")}),
		refused("TargetGroupNotFound", s.elb.DescribeTargetGroupAttributes, &elb.DescribeTargetGroupAttributesInput{TargetGroupArn: gone(s.used)}),
		refused("ResourceInUse", s.elb.DeleteTargetGroup, &elb.DeleteTargetGroupInput{TargetGroupArn: &s.used}),
		refused("LoadBalancerNotFound", s.elb.DescribeTargetGroups, &elb.DescribeTargetGroupsInput{LoadBalancerArn: gone(s.alb)}),
		refused("TargetGroupNotFound", s.elb.DescribeTargetGroups, &elb.DescribeTargetGroupsInput{Names: []string{"nobody"}}),
	}
}

func (s *scene) targetRows() []provoked {
	one := func(id string) []types.TargetDescription { return []types.TargetDescription{{Id: &id}} }
	address := one("10.77.0.77")
	s.many(s.groupOf("full", nil), 1000, false, 0)
	full := *must(s.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{Names: []string{"full"}}))(s.world).TargetGroups[0].TargetGroupArn
	everywhere := s.groupOf("everywhere", nil)
	s.many(everywhere, 1000, true, 0)
	return []provoked{
		refused("InvalidTarget", s.elb.RegisterTargets, &elb.RegisterTargetsInput{TargetGroupArn: &s.fronted, Targets: one(s.nlb)}),
		refused("TargetGroupNotFound", s.elb.RegisterTargets, &elb.RegisterTargetsInput{TargetGroupArn: gone(s.used), Targets: address}),
		refused("TooManyRegistrationsForTargetId", s.elb.RegisterTargets, &elb.RegisterTargetsInput{TargetGroupArn: &everywhere, Targets: []types.TargetDescription{
			{Id: new("192.168.200.1"), Port: new(int32(2000)), AvailabilityZone: new("all")},
		}}),
		refused("TooManyTargets", s.elb.RegisterTargets, &elb.RegisterTargetsInput{TargetGroupArn: &full, Targets: address}),
		refused("InvalidTarget", s.elb.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &s.used, Targets: one("i-0123456789abcdef0")}),
		refused("TargetGroupNotFound", s.elb.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: gone(s.used), Targets: address}),
		faulted("HealthUnavailable", neverFails, s.elb.DescribeTargetHealth, &elb.DescribeTargetHealthInput{TargetGroupArn: &s.used}),
		refused("InvalidTarget", s.elb.DescribeTargetHealth, &elb.DescribeTargetHealthInput{TargetGroupArn: &s.used, Targets: one("i-0123456789abcdef0")}),
		refused("TargetGroupNotFound", s.elb.DescribeTargetHealth, &elb.DescribeTargetHealthInput{TargetGroupArn: gone(s.used)}),
	}
}

func (s *scene) tagRows() []provoked {
	rows := []provoked{
		refused("DuplicateTagKeys", s.elb.AddTags, &elb.AddTagsInput{ResourceArns: []string{s.alb}, Tags: append(manyTags(1), manyTags(1)...)}),
		refused("TooManyTags", s.elb.AddTags, &elb.AddTagsInput{ResourceArns: []string{s.alb}, Tags: manyTags(51)}),
	}
	var keys []string
	for _, t := range manyTags(51) {
		keys = append(keys, *t.Key)
	}
	rows = append(rows, refused("TooManyTags", s.elb.RemoveTags, &elb.RemoveTagsInput{ResourceArns: []string{s.alb}, TagKeys: keys}))
	for code, arn := range map[string]string{
		"ListenerNotFound": s.http, "LoadBalancerNotFound": s.alb, "RuleNotFound": s.rule, "TargetGroupNotFound": s.used, "TrustStoreNotFound": s.trust,
	} {
		arns := []string{*gone(arn)}
		rows = append(rows,
			refused(code, s.elb.AddTags, &elb.AddTagsInput{ResourceArns: arns, Tags: manyTags(1)}),
			refused(code, s.elb.RemoveTags, &elb.RemoveTagsInput{ResourceArns: arns, TagKeys: keys[:1]}),
			refused(code, s.elb.DescribeTags, &elb.DescribeTagsInput{ResourceArns: arns}),
		)
	}
	return rows
}

func (s *scene) trustRows() []provoked {
	create := func(code, key string, change func(*elb.CreateTrustStoreInput)) provoked {
		in := &elb.CreateTrustStoreInput{Name: new("new"), CaCertificatesBundleS3Bucket: &s.bucket, CaCertificatesBundleS3Key: &key}
		if change != nil {
			change(in)
		}
		return refused(code, s.elb.CreateTrustStore, in)
	}
	modify := func(code, arn, key string) provoked {
		return refused(code, s.elb.ModifyTrustStore, &elb.ModifyTrustStoreInput{TrustStoreArn: &arn, CaCertificatesBundleS3Bucket: &s.bucket, CaCertificatesBundleS3Key: &key})
	}
	revoke := func(code, arn, key string, times int) provoked {
		return refused(code, s.elb.AddTrustStoreRevocations, &elb.AddTrustStoreRevocationsInput{
			TrustStoreArn: &arn, RevocationContents: slices.Repeat([]types.RevocationContent{{S3Bucket: &s.bucket, S3Key: &key}}, times),
		})
	}
	nobody := gone(s.trust)
	return []provoked{
		create("CaCertificatesBundleNotFound", "nothing", nil),
		create("DuplicateTagKeys", "ca.pem", func(in *elb.CreateTrustStoreInput) { in.Tags = append(manyTags(1), manyTags(1)...) }),
		create("DuplicateTrustStoreName", "ca.pem", func(in *elb.CreateTrustStoreInput) { in.Name = new("trust") }),
		create("InvalidCaCertificatesBundle", "junk", nil),
		create("TooManyTags", "ca.pem", func(in *elb.CreateTrustStoreInput) { in.Tags = manyTags(51) }),
		modify("CaCertificatesBundleNotFound", s.trust, "nothing"),
		modify("InvalidCaCertificatesBundle", s.trust, "junk"),
		modify("TrustStoreNotFound", *nobody, "ca.pem"),
		refused("TrustStoreInUse", s.elb.DeleteTrustStore, &elb.DeleteTrustStoreInput{TrustStoreArn: &s.trust}),
		refused("TrustStoreNotFound", s.elb.DeleteTrustStore, &elb.DeleteTrustStoreInput{TrustStoreArn: nobody}),
		refused("TrustStoreNotFound", s.elb.DescribeTrustStores, &elb.DescribeTrustStoresInput{Names: []string{"nobody"}}),
		refused("TrustStoreNotFound", s.elb.DescribeTrustStoreAssociations, &elb.DescribeTrustStoreAssociationsInput{TrustStoreArn: nobody}),
		refused("RevocationIdNotFound", s.elb.DescribeTrustStoreRevocations, &elb.DescribeTrustStoreRevocationsInput{TrustStoreArn: &s.trust, RevocationIds: []int64{9}}),
		refused("TrustStoreNotFound", s.elb.DescribeTrustStoreRevocations, &elb.DescribeTrustStoreRevocationsInput{TrustStoreArn: nobody}),
		revoke("InvalidRevocationContent", s.trust, "junk", 1),
		revoke("RevocationContentNotFound", s.trust, "nothing", 1),
		revoke("TooManyTrustStoreRevocationEntries", s.trust, "list.crl", 21),
		revoke("TrustStoreNotFound", *nobody, "list.crl", 1),
		refused("RevocationIdNotFound", s.elb.RemoveTrustStoreRevocations, &elb.RemoveTrustStoreRevocationsInput{TrustStoreArn: &s.trust, RevocationIds: []int64{9}}),
		refused("TrustStoreNotFound", s.elb.RemoveTrustStoreRevocations, &elb.RemoveTrustStoreRevocationsInput{TrustStoreArn: nobody, RevocationIds: []int64{1}}),
		refused("TrustStoreNotFound", s.elb.GetTrustStoreCaCertificatesBundle, &elb.GetTrustStoreCaCertificatesBundleInput{TrustStoreArn: nobody}),
		refused("RevocationIdNotFound", s.elb.GetTrustStoreRevocationContent, &elb.GetTrustStoreRevocationContentInput{TrustStoreArn: &s.trust, RevocationId: new(int64(9))}),
		refused("TrustStoreNotFound", s.elb.GetTrustStoreRevocationContent, &elb.GetTrustStoreRevocationContentInput{TrustStoreArn: nobody, RevocationId: new(int64(1))}),
		refused("ResourceNotFound", s.elb.GetResourcePolicy, &elb.GetResourcePolicyInput{ResourceArn: &s.trust}),
		refused("AssociationNotFound", s.elb.DeleteSharedTrustStoreAssociation, &elb.DeleteSharedTrustStoreAssociationInput{TrustStoreArn: &s.trust, ResourceArn: &s.http}),
		refused("DeleteAssociationSameAccount", s.elb.DeleteSharedTrustStoreAssociation, &elb.DeleteSharedTrustStoreAssociationInput{TrustStoreArn: &s.trust, ResourceArn: &s.https}),
		refused("TrustStoreNotFound", s.elb.DeleteSharedTrustStoreAssociation, &elb.DeleteSharedTrustStoreAssociationInput{TrustStoreArn: nobody, ResourceArn: &s.https}),
	}
}

// quotaRows make until there is one too many: their calls are repeated up to the quota, with other names.
func (s *scene) quotaRows() []provoked {
	until := func(row provoked, quota int, more func(i int) error) provoked {
		row.call = func() error {
			for i := range quota + 1 {
				if err := more(i); err != nil {
					return err
				}
			}
			return fmt.Errorf("%d more were made, and none was refused", quota+1)
		}
		return row
	}
	return []provoked{
		until(refused("TooManyLoadBalancers", s.elb.CreateLoadBalancer, nil), 50, func(i int) error {
			_, err := s.elb.CreateLoadBalancer(ctx, s.createBalancer(func(in *elb.CreateLoadBalancerInput) { in.Name = new(fmt.Sprint("more", i)) }))
			return err
		}),
		until(refused("TooManyListeners", s.elb.CreateListener, nil), 50, func(i int) error {
			_, err := s.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &s.alb, Port: new(int32(1000 + i)), Protocol: types.ProtocolEnumHttp, DefaultActions: fixed("200")})
			return err
		}),
		until(refused("TooManyRules", s.elb.CreateRule, nil), 100, func(i int) error {
			_, err := s.elb.CreateRule(ctx, s.createRule(func(in *elb.CreateRuleInput) { in.Priority = new(int32(1000 + i)) }))
			return err
		}),
		until(refused("TooManyTargetGroups", s.elb.CreateTargetGroup, nil), 3000, func(i int) error {
			_, err := s.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: new(fmt.Sprint("more", i)), Protocol: types.ProtocolEnumTcp, Port: new(int32(80)), VpcId: &s.vpcID})
			return err
		}),
		until(refused("TooManyTrustStores", s.elb.CreateTrustStore, nil), 20, func(i int) error {
			_, err := s.elb.CreateTrustStore(ctx, &elb.CreateTrustStoreInput{Name: new(fmt.Sprint("more", i)), CaCertificatesBundleS3Bucket: &s.bucket, CaCertificatesBundleS3Key: new("ca.pem")})
			return err
		}),
	}
}

// Codes that AWS's model does not have, and users see nevertheless.
func TestErrorCodesOfELBv2OutsideTheModel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := newScene(w)
	secure := func(certificate string) error {
		_, err := s.elb.CreateListener(ctx, &elb.CreateListenerInput{
			LoadBalancerArn: &s.alb, Port: new(int32(444)), Protocol: types.ProtocolEnumHttps, DefaultActions: fixed("200"), Certificates: []types.Certificate{{CertificateArn: &certificate}},
		})
		return err
	}
	w.wantCode(secure(s.pending), "UnsupportedCertificate")
	_, err := s.elb.AddListenerCertificates(ctx, &elb.AddListenerCertificatesInput{ListenerArn: &s.https, Certificates: []types.Certificate{{CertificateArn: &s.pending}}})
	w.wantCode(err, "UnsupportedCertificate")
	_, err = s.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &s.https, Certificates: []types.Certificate{{CertificateArn: &s.pending}}})
	w.wantCode(err, "UnsupportedCertificate")
	w.wantCode(secure(""), "CertificateNotFound")
	for why, in := range map[string]*types.MutualAuthenticationAttributes{
		"unknown mode":            {Mode: new("sometimes")},
		"verify without a store":  {Mode: new("verify")},
		"store without verifying": {Mode: new("passthrough"), TrustStoreArn: &s.trust},
	} {
		_, err := s.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &s.https, MutualAuthentication: in})
		t.Run(why, func(t *testing.T) { (&world{T: t}).wantCode(err, "ValidationError") })
	}
	redirect := types.Action{Type: types.ActionTypeEnumRedirect, RedirectConfig: &types.RedirectActionConfig{StatusCode: types.RedirectActionStatusCodeEnumHttp302, Protocol: new("HTTP"), Port: new("80")}}
	_, err = s.elb.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &s.https, DefaultActions: []types.Action{redirect}})
	w.wantCode(err, "InvalidLoadBalancerAction")
	secondary := func(n string) error {
		_, err := s.elb.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &s.nlb, Attributes: lbAttribute("secondary_ips.auto_assigned.per_subnet", n)})
		return err
	}
	if err := secondary("2"); err != nil {
		t.Fatal(err)
	}
	w.wantCode(secondary("1"), "InvalidConfigurationRequest")
	_, err = s.elb.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: &s.tls, Priority: new(int32(1)), Conditions: path("/x"), Actions: forward(s.tcp)})
	w.wantCode(err, "UnsupportedProtocol")
}
