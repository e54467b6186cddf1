package aws

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
)

// needed are actions that operations need besides their own.
var needed = map[string]string{
	"wafv2:AssociateWebACL":           "elasticloadbalancing:SetWebAcl",
	"wafv2:DisassociateWebACL":        "elasticloadbalancing:SetWebAcl",
	"waf-regional:AssociateWebACL":    "elasticloadbalancing:SetWebAcl",
	"waf-regional:DisassociateWebACL": "elasticloadbalancing:SetWebAcl",
}

// tagging are the actions that who makes something with tags needs as well, by service. Their condition key CreateAction tells
// what is made.
var taggingActions = map[string]string{"elasticloadbalancing": "AddTags", "ec2": "CreateTags"}

// always are the operations that no policy can deny.
var always = []string{"sts:GetCallerIdentity", "sts:AssumeRoleWithWebIdentity"}

// authorize refuses what the caller's policies do not allow. The input is that of the operation, nil if it is not modelled.
func (e *Emulator) authorize(c *call, input any) error {
	service, operation := c.action()
	action := service + ":" + operation
	if e.config.Anonymous || slices.Contains(always, action) || c.principal.Unrestricted() {
		return nil
	}
	q := e.inquiry(c, input)
	actions := []string{action}
	if needed[action] != "" {
		actions = append(actions, needed[action])
	}
	for _, one := range actions {
		if err := q.decide(one); err != nil {
			return err
		}
	}
	if len(q.tagged) > 0 {
		q.created, q.resources = operation, q.tagged
		return q.decide(service + ":" + taggingActions[service])
	}
	return nil
}

// inquiry is what policies are asked about a call.
type inquiry struct {
	*Emulator
	call      *call
	service   string
	resources []string
	tags      map[string]string // in the request
	made      string            // the ARN of what the call makes
	tagged    []string          // the ARNs of what the call makes with tags
	created   string            // the operation that sets tags on what it makes
}

func (q *inquiry) decide(action string) error {
	resources := q.resources
	if strings.HasSuffix(action, ":SetWebAcl") {
		resources = slices.DeleteFunc(slices.Clone(resources), func(arn string) bool { return !strings.Contains(arn, ":loadbalancer/") })
	}
	decision := q.call.principal.Decide(policy.Request{Action: action, Resources: resources, Context: q.context})
	if decision == policy.Allowed {
		return nil
	}
	refused := q.call.fault()
	if len(resources) > 0 {
		refused.Resource = resources[0]
	} else {
		refused.Resource = "*"
	}
	return fault.Denial(refused, action, decision == policy.Denied)
}

// context tells the values of condition keys.
func (q *inquiry) context(key, resource string) []string {
	p := q.call.principal
	one := func(value string) []string {
		if value == "" {
			return nil
		}
		return []string{value}
	}
	name, tag, tagged := strings.Cut(key, "/")
	switch name {
	case "aws:RequestTag":
		if value, ok := q.tags[tag]; ok && tagged {
			return []string{value}
		}
	case "aws:ResourceTag", "ec2:ResourceTag", "elasticloadbalancing:ResourceTag":
		if value, ok := q.tagsOf(resource)[tag]; ok && tagged {
			return []string{value}
		}
	case "aws:TagKeys":
		return slices.Sorted(maps.Keys(q.tags))
	case "ec2:CreateAction", "elasticloadbalancing:CreateAction":
		if strings.HasPrefix(name, q.service+":") {
			return one(q.created)
		}
	case "aws:RequestedRegion", "ec2:Region":
		return one(q.config.Region)
	case "aws:PrincipalArn":
		return one(p.RoleOrUser())
	case "aws:PrincipalAccount":
		return one(q.config.AccountID)
	case "aws:PrincipalType":
		if p.Name == "" {
			return []string{"AssumedRole"}
		}
		return []string{"User"}
	case "aws:userid":
		return one(p.UserID)
	case "aws:username":
		return one(p.Name)
	}
	return nil
}

// tagsOf are the tags that a resource has now.
func (e *Emulator) tagsOf(arn string) map[string]string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return nil
	}
	switch parts[2] {
	case "ec2":
		return e.ec2.TagsOf(parts[5][strings.LastIndex(parts[5], "/")+1:])
	case "elasticloadbalancing":
		return e.elbv2.Tagged()[arn]
	case "acm":
		return e.acm.Tagged()[arn]
	case "route53":
		return e.route53.Tagged()[arn]
	case "globalaccelerator": // what belongs to an accelerator has the tags of that
		accelerator, _, _ := strings.Cut(arn, "/listener/")
		return e.accelerators.Tagged()[accelerator]
	}
	return nil
}

// inquiry finds what a call is about: the ARNs in its input, those of the ids in it, and the ones of what it makes, as far as they are known.
func (e *Emulator) inquiry(c *call, input any) *inquiry {
	service, operation := c.action()
	q := &inquiry{Emulator: e, call: c, service: service, tags: map[string]string{}}
	var fields map[string]any
	if text, err := json.Marshal(input); err != nil || json.Unmarshal(text, &fields) != nil {
		return q
	}
	q.readTags(fields)
	read := strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "Get")
	if read && (service == "elasticloadbalancing" || service == "ec2") {
		return q // there is no permission for some of them only
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, text := range texts(fields[name]) {
			if arn := q.arnOf(operation, name, text); arn != "" && !slices.Contains(q.resources, arn) {
				q.resources = append(q.resources, arn)
			}
		}
	}
	q.made = e.madeBy(service, operation, fields)
	if service == "elasticloadbalancing" && strings.HasPrefix(operation, "Create") && len(q.tags) > 0 {
		q.tagged = []string{q.made}
	}
	if operation != "CreateListener" && operation != "CreateRule" && q.made != "*" { // these are allowed for what they belong to
		q.resources = append(q.resources, q.made)
	}
	return q
}

// texts are the texts of a field: its own, those of a list, and those of the structures in a list.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		for _, one := range v {
			switch one := one.(type) {
			case string:
				all = append(all, one)
			case map[string]any:
				if text, ok := one["RuleArn"].(string); ok { // SetRulePriorities
					all = append(all, text)
				}
			}
		}
	}
	return all
}

// readTags finds tags in the forms that the services have for them. Those of EC2 say of what kind of resource they are to be.
func (q *inquiry) readTags(fields map[string]any) {
	read := func(list any) {
		all, _ := list.([]any)
		for _, one := range all {
			tag, _ := one.(map[string]any)
			key, _ := tag["Key"].(string)
			if value, ok := tag["Value"].(string); ok || key != "" {
				q.tags[key] = value
			}
		}
	}
	read(fields["Tags"])
	read(fields["AddTags"])
	specifications, _ := fields["TagSpecifications"].([]any)
	for _, one := range specifications {
		specification, _ := one.(map[string]any)
		read(specification["Tags"])
		if kind, ok := specification["ResourceType"].(string); ok && q.service == "ec2" {
			q.tagged = append(q.tagged, q.ec2ARN(kind, "*"))
		}
	}
}

// kinds are the resources of EC2 by the prefix of their ids.
var kinds = map[string]string{
	"sg": "security-group", "sgr": "security-group-rule", "vpc": "vpc", "subnet": "subnet", "i": "instance", "eni": "network-interface",
	"rtb": "route-table", "igw": "internet-gateway", "eipalloc": "elastic-ip", "pl": "prefix-list",
}

// ec2ARN is the ARN of a resource of EC2.
func (e *Emulator) ec2ARN(kind, id string) string {
	return "arn:aws:ec2:" + e.config.Region + ":" + e.config.AccountID + ":" + kind + "/" + id
}

// arnOf is the ARN that a text in a field of an input stands for; empty if it stands for none.
func (q *inquiry) arnOf(operation, field, text string) string {
	service, e := q.service, q.Emulator
	if strings.HasPrefix(text, "arn:") {
		return text
	}
	switch prefix, _, _ := strings.Cut(text, "-"); {
	case service == "ec2" && kinds[prefix] != "" && strings.Contains(text, "-"):
		return e.ec2ARN(kinds[prefix], text)
	case service == "route53" && operation == "GetChange":
		return "arn:aws:route53:::change/" + strings.TrimPrefix(text, "/change/")
	case service == "route53" && (field == "HostedZoneId" || field == "Id" || field == "ResourceId"):
		return "arn:aws:route53:::hostedzone/" + strings.TrimPrefix(text, "/hostedzone/")
	case service == "waf-regional" && field == "WebACLId":
		return "arn:aws:waf-regional:" + e.config.Region + ":" + e.config.AccountID + ":webacl/" + text
	case service == "shield" && field == "ProtectionId":
		return "arn:aws:shield::" + e.config.AccountID + ":protection/" + text
	}
	return ""
}

// madeBy is the ARN of what a call makes, with a star for what is not known before; only a star if it makes nothing that has one.
func (e *Emulator) madeBy(service, operation string, fields map[string]any) string {
	own := "arn:aws:" + service + ":" + e.config.Region + ":" + e.config.AccountID + ":"
	name, _ := fields["Name"].(string)
	switch service + ":" + operation {
	case "elasticloadbalancing:CreateLoadBalancer":
		kind := "app"
		if text, _ := fields["Type"].(string); text == "network" {
			kind = "net"
		}
		return own + "loadbalancer/" + kind + "/" + name + "/*"
	case "elasticloadbalancing:CreateTargetGroup":
		return own + "targetgroup/" + name + "/*"
	case "elasticloadbalancing:CreateTrustStore":
		return own + "truststore/" + name + "/*"
	case "ec2:CreateSecurityGroup":
		return own + "security-group/*"
	case "elasticloadbalancing:CreateListener":
		arn, _ := fields["LoadBalancerArn"].(string)
		return strings.Replace(arn, ":loadbalancer/", ":listener/", 1) + "/*"
	case "elasticloadbalancing:CreateRule":
		arn, _ := fields["ListenerArn"].(string)
		return strings.Replace(arn, ":listener/", ":listener-rule/", 1) + "/*"
	}
	return "*"
}
