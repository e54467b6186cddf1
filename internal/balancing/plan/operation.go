package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// Operation is one change. Its String is a line of the preview. The concrete types below are all there are.
type Operation interface {
	fmt.Stringer
	operation()
}

// Ref names a resource: by ARN (or security-group id) when it exists, by ResourceID when an earlier
// operation of the same plan makes it.
type Ref struct {
	ResourceID string
	ARN        string
}

func (r Ref) String() string { return r.ResourceID }

// Operations on traffic.
type (
	// ModifyRule changes a rule in place. Nil actions or conditions are kept.
	ModifyRule struct {
		Rule       Ref
		Actions    []model.Action
		Conditions []model.Condition
		// Raises are the ARNs of target groups whose share rises because their targets are healthy. Whoever sends the
		// call asks once more right before: they may have begun to leave since the plan was made.
		Raises []string
		Reason string
	}
	// ModifyListener changes default actions, or else, without any, certificates and policy.
	ModifyListener struct {
		Target   Ref
		Listener model.Listener
		// Raises are as those of ModifyRule.
		Raises []string
		Reason string
	}
	// SetRulePriorities moves rules in one call, by rule ARN.
	SetRulePriorities struct {
		Listener   Ref
		Priorities map[string]int32
	}
	// CreateRule makes a rule.
	CreateRule struct {
		Listener Ref
		Rule     model.Rule
	}
	// DeleteRule deletes a rule that nothing asks for.
	DeleteRule struct {
		Listener Ref
		Rule     Ref
		// Priority is the rule's when the operations on traffic have been carried out.
		Priority int32
		// Heirs are the rules to be made, by resource id, that take over its requests. It may go, or be turned into
		// one of them, only when all others are in place.
		Heirs []string
	}
)

// Operations on security groups.
type (
	// CreateSecurityGroup makes a security group without rules.
	CreateSecurityGroup struct{ Group model.SecurityGroup }
	// CreateBackendGroup finds or makes the security group that the cluster's load balancers share.
	CreateBackendGroup struct{ Group model.SecurityGroup }
	// AuthorizeIngress adds sources.
	AuthorizeIngress struct {
		Group       Ref
		Permissions []model.Permission
	}
	// RevokeIngress takes sources away.
	RevokeIngress struct {
		Group       Ref
		Permissions []model.Permission
	}
	// DeleteSecurityGroup deletes a security group. While it is in use the round goes on without it.
	DeleteSecurityGroup struct {
		Group Ref
		// Shared marks the security group of all load balancers.
		Shared bool
	}
)

// Operations on target groups and their bindings.
type (
	CreateTargetGroup struct{ Group model.TargetGroup }
	// ModifyTargetGroup changes the health check.
	ModifyTargetGroup struct {
		Group       Ref
		HealthCheck model.HealthCheck
	}
	SetTargetGroupAttributes struct {
		Group      Ref
		Attributes map[string]string
	}
	DeleteTargetGroup struct{ Group Ref }
	// CreateBinding makes the TargetGroupBinding object.
	CreateBinding struct {
		Group   Ref
		Binding model.Binding
	}
	// UpdateBinding changes the object of that name.
	UpdateBinding struct {
		Group   Ref
		Binding model.Binding
	}
	// DeleteBinding deletes the object; its targets are then deregistered.
	DeleteBinding struct{ Namespace, Name string }
	// MarkBinding notes since when no rule names the binding's group; the zero time takes the note away.
	MarkBinding struct {
		Namespace, Name string
		UnusedSince     time.Time
	}
)

// Operations on load balancers and listeners.
type (
	CreateLoadBalancer struct{ LoadBalancer model.LoadBalancer }
	SetSecurityGroups  struct {
		LoadBalancer Ref
		Groups       []model.SecurityGroupRef
	}
	SetSubnets struct {
		LoadBalancer Ref
		SubnetIDs    []string
	}
	SetIPAddressType struct {
		LoadBalancer  Ref
		IPAddressType string
	}
	SetLoadBalancerAttributes struct {
		LoadBalancer Ref
		Attributes   map[string]string
	}
	DeleteLoadBalancer struct{ LoadBalancer Ref }
	CreateListener     struct {
		LoadBalancer Ref
		Listener     model.Listener
	}
	DeleteListener struct{ Listener Ref }
)

// Operations on tags.
type (
	AddTags struct {
		Resource Ref
		Tags     map[string]string
	}
	RemoveTags struct {
		Resource Ref
		Keys     []string
	}
)

func (ModifyRule) operation()                {}
func (ModifyListener) operation()            {}
func (SetRulePriorities) operation()         {}
func (CreateRule) operation()                {}
func (DeleteRule) operation()                {}
func (CreateSecurityGroup) operation()       {}
func (CreateBackendGroup) operation()        {}
func (AuthorizeIngress) operation()          {}
func (RevokeIngress) operation()             {}
func (DeleteSecurityGroup) operation()       {}
func (CreateTargetGroup) operation()         {}
func (ModifyTargetGroup) operation()         {}
func (SetTargetGroupAttributes) operation()  {}
func (DeleteTargetGroup) operation()         {}
func (CreateBinding) operation()             {}
func (UpdateBinding) operation()             {}
func (DeleteBinding) operation()             {}
func (MarkBinding) operation()               {}
func (CreateLoadBalancer) operation()        {}
func (SetSecurityGroups) operation()         {}
func (SetSubnets) operation()                {}
func (SetIPAddressType) operation()          {}
func (SetLoadBalancerAttributes) operation() {}
func (DeleteLoadBalancer) operation()        {}
func (CreateListener) operation()            {}
func (DeleteListener) operation()            {}
func (AddTags) operation()                   {}
func (RemoveTags) operation()                {}

func (o ModifyRule) String() string {
	line := "modify rule " + o.Rule.String()
	if o.Conditions != nil {
		line += " when " + conditionsText(o.Conditions)
	}
	if o.Actions != nil {
		line += " -> " + actionsText(o.Actions)
	}
	return withReason(line, o.Reason)
}

func (o ModifyListener) String() string {
	if l := o.Listener; l.DefaultActions == nil {
		return withReason(fmt.Sprintf("modify listener %s %s: policy %s, certificates %s", o.Target, l.Protocol, l.SSLPolicy, strings.Join(l.Certificates, ", ")), o.Reason)
	}
	return withReason(fmt.Sprintf("modify listener %s %s -> %s", o.Target, o.Listener.Protocol, actionsText(o.Listener.DefaultActions)), o.Reason)
}

func (o SetRulePriorities) String() string {
	var moves []string
	for _, arn := range slices.Sorted(maps.Keys(o.Priorities)) {
		moves = append(moves, fmt.Sprintf("%s to %d", shortARN(arn), o.Priorities[arn]))
	}
	return fmt.Sprintf("set rule priorities of listener %s: %s", o.Listener, strings.Join(moves, ", "))
}

func (o CreateRule) String() string {
	return fmt.Sprintf("create rule %s when %s -> %s", o.Rule.ResourceID, conditionsText(o.Rule.Conditions), actionsText(o.Rule.Actions))
}
func (o DeleteRule) String() string {
	return fmt.Sprintf("delete rule %s of listener %s", shortARN(o.Rule.ARN), o.Listener)
}
func (o CreateSecurityGroup) String() string {
	return fmt.Sprintf("create security group %s (%s)", o.Group.ResourceID, o.Group.Name)
}
func (o CreateBackendGroup) String() string { return "create the shared backend security group" }
func (o AuthorizeIngress) String() string {
	return fmt.Sprintf("authorize in security group %s: %s", o.Group, permissionsText(o.Permissions))
}
func (o RevokeIngress) String() string {
	return fmt.Sprintf("revoke in security group %s: %s", o.Group, permissionsText(o.Permissions))
}
func (o DeleteSecurityGroup) String() string {
	if o.Shared {
		return "delete the shared backend security group"
	}
	return "delete security group " + o.Group.String()
}
func (o CreateTargetGroup) String() string {
	return fmt.Sprintf("create target group %s (%s, %s %s port %d)", o.Group.ResourceID, o.Group.Name, o.Group.TargetType, o.Group.Protocol, o.Group.Port)
}
func (o ModifyTargetGroup) String() string {
	return "modify health check of target group " + o.Group.String()
}
func (o SetTargetGroupAttributes) String() string {
	return fmt.Sprintf("set attributes of target group %s: %s", o.Group, pairsText(o.Attributes))
}
func (o DeleteTargetGroup) String() string {
	return fmt.Sprintf("delete target group %s (%s)", o.Group, shortARN(o.Group.ARN))
}
func (o CreateBinding) String() string {
	return fmt.Sprintf("create binding %s/%s of %s:%s to %s", o.Binding.Namespace, o.Binding.Name, o.Binding.Service, o.Binding.ServicePort, o.Group)
}
func (o UpdateBinding) String() string {
	return fmt.Sprintf("update binding %s/%s", o.Binding.Namespace, o.Binding.Name)
}
func (o DeleteBinding) String() string {
	return fmt.Sprintf("delete binding %s/%s", o.Namespace, o.Name)
}
func (o MarkBinding) String() string {
	if o.UnusedSince.IsZero() {
		return fmt.Sprintf("mark binding %s/%s as used", o.Namespace, o.Name)
	}
	return fmt.Sprintf("mark binding %s/%s as unused since %s", o.Namespace, o.Name, o.UnusedSince.UTC().Format(time.TimeOnly))
}
func (o CreateLoadBalancer) String() string {
	return fmt.Sprintf("create load balancer %s (%s, %s)", o.LoadBalancer.Name, o.LoadBalancer.Scheme, o.LoadBalancer.IPAddressType)
}
func (o SetSecurityGroups) String() string {
	return "set security groups of the load balancer: " + groupRefsText(o.Groups)
}
func (o SetSubnets) String() string {
	return "set subnets of the load balancer: " + strings.Join(o.SubnetIDs, ", ")
}
func (o SetIPAddressType) String() string {
	return "set IP address type of the load balancer: " + o.IPAddressType
}
func (o SetLoadBalancerAttributes) String() string {
	return "set attributes of the load balancer: " + pairsText(o.Attributes)
}
func (o DeleteLoadBalancer) String() string {
	return "delete load balancer " + shortARN(o.LoadBalancer.ARN)
}
func (o CreateListener) String() string {
	return fmt.Sprintf("create listener %s %s -> %s", o.Listener.ResourceID, o.Listener.Protocol, actionsText(o.Listener.DefaultActions))
}
func (o DeleteListener) String() string { return "delete listener " + o.Listener.String() }
func (o AddTags) String() string {
	return fmt.Sprintf("add tags to %s: %s", o.Resource, pairsText(o.Tags))
}
func (o RemoveTags) String() string {
	return fmt.Sprintf("remove tags of %s: %s", o.Resource, strings.Join(o.Keys, ", "))
}

func withReason(line, reason string) string {
	if reason == "" {
		return line
	}
	return line + " (" + reason + ")"
}

// shortARN is the part of an ARN that a person recognises: name and id.
func shortARN(arn string) string {
	_, short, found := strings.Cut(arn, "targetgroup/")
	if found {
		return short
	}
	return arn[strings.LastIndex(arn, "/")+1:]
}

func groupText(g model.WeightedTargetGroup) string {
	if g.ResourceID != "" {
		return g.ResourceID
	}
	return shortARN(g.ARN)
}

func actionsText(actions []model.Action) string {
	var parts []string
	for _, a := range actions {
		switch {
		case a.Forward != nil:
			var groups []string
			for _, g := range a.Forward.TargetGroups {
				groups = append(groups, fmt.Sprintf("%s=%d", groupText(g), g.Weight))
			}
			text := "forward " + strings.Join(groups, " ")
			if a.Forward.Stickiness > 0 {
				text += fmt.Sprintf(" sticky %s", a.Forward.Stickiness)
			}
			parts = append(parts, text)
		case a.Redirect != nil:
			r := a.Redirect
			parts = append(parts, fmt.Sprintf("redirect %s://%s:%s%s?%s %s", r.Protocol, r.Host, r.Port, r.Path, r.Query, r.StatusCode))
		case a.FixedResponse != nil:
			parts = append(parts, "answer "+a.FixedResponse.StatusCode)
		default:
			parts = append(parts, string(a.Type))
		}
	}
	return strings.Join(parts, ", ")
}

func conditionsText(conditions []model.Condition) string {
	var parts []string
	for _, c := range conditions {
		values := append(slices.Clone(c.Values), c.RegexValues...)
		for _, q := range c.Query {
			values = append(values, q.Key+"="+q.Value)
		}
		parts = append(parts, strings.TrimSpace(c.Field+" "+c.HeaderName)+" "+strings.Join(values, "|"))
	}
	return strings.Join(parts, " and ")
}

func permissionsText(permissions []model.Permission) string {
	var parts []string
	for _, p := range permissions {
		parts = append(parts, fmt.Sprintf("%s %d-%d from %s", p.Protocol, p.FromPort, p.ToPort, p.CIDR+p.IPv6CIDR+p.PrefixListID+p.SourceGroupID))
	}
	return strings.Join(parts, ", ")
}

func groupRefsText(refs []model.SecurityGroupRef) string {
	var parts []string
	for _, r := range refs {
		switch {
		case r.GroupID != "":
			parts = append(parts, r.GroupID)
		case r.Backend:
			parts = append(parts, "the shared backend group")
		default:
			parts = append(parts, r.ResourceID)
		}
	}
	return strings.Join(parts, ", ")
}

func pairsText(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ", ")
}
