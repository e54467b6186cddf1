package cloud_test

import (
	"context"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// contract is everything that the packages which carry out plans may ask of a cloud; each of them declares
// the part that it needs.
type contract interface {
	ModifyRule(ctx context.Context, arn string, actions []model.Action, conditions []model.Condition) error
	ModifyListener(ctx context.Context, arn string, listener model.Listener) error
	SetRulePriorities(ctx context.Context, priorities map[string]int32) error
	RegisterTargets(ctx context.Context, targetGroupARN string, targets []model.Target) error
	DeregisterTargets(ctx context.Context, targetGroupARN string, targets []model.Target) error
	CreateSecurityGroup(ctx context.Context, sg model.SecurityGroup) (groupID string, err error)
	DeleteSecurityGroup(ctx context.Context, groupID string) error
	AuthorizeIngress(ctx context.Context, groupID string, permissions []model.Permission) error
	RevokeIngress(ctx context.Context, groupID string, permissions []model.Permission) error
	CreateLoadBalancer(ctx context.Context, lb model.LoadBalancer, securityGroupIDs []string) (model.ObservedLoadBalancer, error)
	DeleteLoadBalancer(ctx context.Context, arn string) error
	SetSecurityGroups(ctx context.Context, loadBalancerARN string, groupIDs []string) error
	SetSubnets(ctx context.Context, loadBalancerARN string, subnetIDs []string) error
	SetIPAddressType(ctx context.Context, loadBalancerARN, ipAddressType string) error
	ModifyLoadBalancerAttributes(ctx context.Context, arn string, attributes map[string]string) error
	CreateTargetGroup(ctx context.Context, group model.TargetGroup) (model.ObservedTargetGroup, error)
	ModifyTargetGroup(ctx context.Context, arn string, check model.HealthCheck) error
	ModifyTargetGroupAttributes(ctx context.Context, arn string, attributes map[string]string) error
	DeleteTargetGroup(ctx context.Context, arn string) error
	CreateListener(ctx context.Context, loadBalancerARN string, listener model.Listener) (model.ObservedListener, error)
	DeleteListener(ctx context.Context, arn string) error
	CreateRule(ctx context.Context, listenerARN string, rule model.Rule) (model.ObservedRule, error)
	DeleteRule(ctx context.Context, arn string) error
	AddTags(ctx context.Context, arn string, tags map[string]string) error
	RemoveTags(ctx context.Context, arn string, keys []string) error

	Stack(ctx context.Context, stackID string) (model.Observed, error)
	TargetHealth(ctx context.Context, targetGroupARN string, notBefore time.Time) (health []model.TargetHealth, seenAt time.Time, err error)
	WatchTargets(targetGroupARN string, interest bool)
	TargetGroup(ctx context.Context, arn string) (model.ObservedTargetGroup, error)
	TargetGroupByName(ctx context.Context, name string) (model.ObservedTargetGroup, error)
	Subnets(ctx context.Context) ([]cloud.Subnet, error)
	SecurityGroup(ctx context.Context, groupID string) (model.ObservedSecurityGroup, error)
	SecurityGroupsByTag(ctx context.Context, tags map[string]string) ([]model.ObservedSecurityGroup, error)
	SecurityGroupsByName(ctx context.Context, names []string) ([]model.ObservedSecurityGroup, error)
	NetworkInterfacesByAddress(ctx context.Context, addresses []string) ([]cloud.NetworkInterface, error)
	NetworkInterfacesByInstance(ctx context.Context, instanceIDs []string) ([]cloud.NetworkInterface, error)
	VPC() cloud.VPC
	Subscribe(func(cloud.Change)) (cancel func())
	Evidence(pods cloud.PodFinder) evidence.Source
}

var _ contract = (*cloud.Cloud)(nil)
