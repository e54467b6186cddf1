package elbv2

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

func (s *Service) arn(resource string) string {
	return fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:%s", s.config.Region, s.config.AccountID, resource)
}

// tail is the part of a load balancer's ARN behind "loadbalancer/": app/<name>/<id>.
func tail(balancerARN string) string {
	_, after, _ := strings.Cut(balancerARN, ":loadbalancer/")
	return after
}

func (s *Service) newBalancerARN(name string, kind types.LoadBalancerTypeEnum) string {
	short := map[types.LoadBalancerTypeEnum]string{
		types.LoadBalancerTypeEnumApplication: "app", types.LoadBalancerTypeEnumNetwork: "net", types.LoadBalancerTypeEnumGateway: "gwy",
	}[kind]
	return s.arn("loadbalancer/" + short + "/" + name + "/" + s.config.IDs.Hex(16, "loadbalancer", name))
}

func (s *Service) newListenerARN(lb *loadBalancer, port int32) string {
	return s.arn("listener/" + tail(lb.arn) + "/" + s.config.IDs.Hex(16, "listener", fmt.Sprintf("%s:%d", lb.name, port)))
}

func (s *Service) newRuleARN(l *listener, priority string) string {
	_, after, _ := strings.Cut(l.arn, ":listener/")
	name := fmt.Sprintf("%s:%d:%s", l.balancer.name, *l.value.Get().Port, priority)
	return s.arn("listener-rule/" + after + "/" + s.config.IDs.Hex(16, "rule", name))
}

func (s *Service) newTargetGroupARN(name string) string {
	return s.arn("targetgroup/" + name + "/" + s.config.IDs.Hex(16, "targetgroup", name))
}

// dnsName is the name of a load balancer: an ALB's has digits of its own, an NLB's repeats the id.
func (s *Service) dnsName(name, arn string, kind types.LoadBalancerTypeEnum, scheme types.LoadBalancerSchemeEnum) string {
	if kind == types.LoadBalancerTypeEnumNetwork {
		id := arn[strings.LastIndex(arn, "/")+1:]
		return fmt.Sprintf("%s-%s.elb.%s.amazonaws.com", name, id, s.config.Region)
	}
	prefix := ""
	if scheme == types.LoadBalancerSchemeEnumInternal {
		prefix = "internal-"
	}
	return fmt.Sprintf("%s%s-%s.%s.elb.amazonaws.com", prefix, name, s.config.IDs.Decimal("dns", name), s.config.Region)
}

// hostedZones are the canonical hosted zone ids: of ALBs, of NLBs.
var hostedZones = map[string][2]string{
	"us-east-1":      {"Z35SXDOTRQ7X7K", "Z26RNL4JYFTOTI"},
	"us-east-2":      {"Z3AADJGX6KTTL2", "ZLMOA37VPKANP"},
	"us-west-1":      {"Z368ELLRRE2KJ0", "Z24FKFUX50B4VW"},
	"us-west-2":      {"Z1H1FL5HABSF5", "Z18D5FSROUN65G"},
	"ca-central-1":   {"ZQSVJUPU6J1EY", "Z2EPGBW3API2WT"},
	"ap-northeast-1": {"Z14GRHDCWA56QT", "Z31USIVHYNEOWT"},
	"ap-northeast-2": {"ZWKZPGTI48KDX", "ZIBE1TIR4HY56"},
	"ap-southeast-1": {"Z1LMS91P8CMLE5", "ZKVM4W9LS7TM"},
	"ap-southeast-2": {"Z1GM3OXH4ZPM65", "ZCT6FZBF4DROD"},
	"ap-south-1":     {"ZP97RAFLXTNZK", "ZVDDRBQ08TROA"},
	"sa-east-1":      {"Z2P70J7HTTTPLU", "ZTK26PT1VY4CU"},
	"eu-central-1":   {"Z215JYRZR1TBD5", "Z3F0SRJ5LGBH90"},
	"eu-west-1":      {"Z32O12XQLNTSW2", "Z2IFOLAFXWLO4F"},
	"eu-west-2":      {"ZHURV8PSTC4K8", "ZD4D7Y8KGAS4G"},
	"eu-west-3":      {"Z3Q77PNBQS71R4", "Z1CMS0P5QUZ6D5"},
	"eu-north-1":     {"Z23TAZ6LKFMNIO", "Z1UDT6IFJ4EJM"},
}

// hostedZone is AWS's id where it is known, and a stable invented one elsewhere.
func hostedZone(region string, kind types.LoadBalancerTypeEnum) string {
	index := 0
	if kind == types.LoadBalancerTypeEnumNetwork {
		index = 1
	}
	if ids, ok := hostedZones[region]; ok {
		return ids[index]
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%d", region, index)
	return fmt.Sprintf("Z%013X", h.Sum64()>>12)
}
