package ingress

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// listeners translates ports, rules and default actions, and on the way the target groups they need.
func (t *translation) listeners(stack *model.Stack) error {
	ports, err := t.listenPorts()
	if err != nil {
		return err
	}
	redirect, err := t.sslRedirect(ports)
	if err != nil {
		return err
	}
	rules, err := t.rules()
	if err != nil {
		return err
	}
	defaults := routed{actions: []model.Action{fixedResponse("404", "")}}
	if b := t.objects.Ingress.Spec.DefaultBackend; b != nil {
		if defaults, err = t.backend(*b, "spec.defaultBackend"); err != nil {
			return err
		}
	}
	for _, port := range ports {
		l := model.Listener{ResourceID: strconv.Itoa(int(port.number)), Port: port.number, Protocol: port.protocol}
		if l.Tags, err = t.tags(t.given, l.ResourceID); err != nil {
			return err
		}
		if port.protocol == "HTTPS" {
			if l.Certificates = t.certificates(); len(l.Certificates) == 0 {
				return t.given.invalid("certificate-arn", "the HTTPS listener needs a certificate, and certificates are not discovered yet", "name the ARN of a certificate")
			}
			l.SSLPolicy = or(or(t.params.SSLPolicy, t.given.text("ssl-policy", "")), or(t.settings.DefaultSSLPolicy, "ELBSecurityPolicy-2016-08"))
		}
		if redirect != nil && port.protocol == "HTTP" {
			l.DefaultActions = []model.Action{*redirect}
			stack.Listeners = append(stack.Listeners, l)
			continue
		}
		l.DefaultActions, l.Hold = defaults.actions, defaults.hold
		for i, rule := range rules {
			rule.Priority = int32(i + 1)
			rule.ResourceID = fmt.Sprintf("%d:%d", port.number, rule.Priority)
			if rule.Tags, err = t.tags(t.given, rule.ResourceID); err != nil {
				return err
			}
			l.Rules = append(l.Rules, rule)
		}
		stack.Listeners = append(stack.Listeners, l)
	}
	return nil
}

// sslRedirect is the one action of every HTTP listener when ssl-redirect is given.
func (t *translation) sslRedirect(ports []listenPort) (*model.Action, error) {
	port, err := t.given.number("ssl-redirect", 0)
	if err != nil {
		return nil, err
	}
	if n, err := strconv.Atoi(t.params.SSLRedirectPort); err == nil {
		port = int32(n)
	}
	if port == 0 {
		return nil, nil
	}
	if !slices.Contains(ports, listenPort{port, "HTTPS"}) {
		return nil, t.given.invalid("ssl-redirect", "no HTTPS listener has this port", "add it to listen-ports")
	}
	return &model.Action{Type: model.ActionRedirect, Redirect: &model.Redirect{
		Protocol: "HTTPS", Host: "#{host}", Port: strconv.Itoa(int(port)), Path: "/#{path}", Query: "#{query}", StatusCode: "HTTP_301",
	}}, nil
}

// rules are all rules in their order of precedence, without priorities: the Ingress's rules in order, and
// in each the Exact paths, then Prefix paths from the longest to the shortest, then the others.
func (t *translation) rules() ([]model.Rule, error) {
	var rules []model.Rule
	for i, r := range t.objects.Ingress.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range orderedPaths(r.HTTP.Paths) {
			field := fmt.Sprintf("spec.rules[%d] path %q", i, p.Path)
			patterns, err := pathPatterns(p)
			if err != nil {
				return nil, &InvalidError{Object: t.given.object, Field: field, Value: p.Path, Problem: err.Error(), Remedy: "write a path without wildcards or use pathType ImplementationSpecific"}
			}
			to, err := t.backend(p.Backend, field)
			if err != nil {
				return nil, err
			}
			conditions, err := t.conditions(p.Backend, r.Host, patterns)
			if err != nil {
				return nil, err
			}
			rules = append(rules, model.Rule{Conditions: conditions, Actions: to.actions, Hold: to.hold})
		}
	}
	return rules, nil
}

func orderedPaths(paths []networkingv1.HTTPIngressPath) []networkingv1.HTTPIngressPath {
	rank := func(p networkingv1.HTTPIngressPath) int {
		switch {
		case p.PathType != nil && *p.PathType == networkingv1.PathTypeExact:
			return 0
		case p.PathType != nil && *p.PathType == networkingv1.PathTypePrefix:
			return 1
		}
		return 2
	}
	ordered := slices.Clone(paths)
	slices.SortStableFunc(ordered, func(a, b networkingv1.HTTPIngressPath) int {
		if rank(a) != rank(b) || rank(a) != 1 {
			return rank(a) - rank(b)
		}
		return len(b.Path) - len(a.Path)
	})
	return ordered
}

// pathPatterns are the ALB patterns that a path means; none for an empty path.
func pathPatterns(p networkingv1.HTTPIngressPath) ([]string, error) {
	kind := networkingv1.PathTypeImplementationSpecific
	if p.PathType != nil {
		kind = *p.PathType
	}
	if p.Path == "" {
		return nil, nil
	}
	if kind != networkingv1.PathTypeImplementationSpecific && strings.ContainsAny(p.Path, "*?") {
		return nil, fmt.Errorf("pathType %s does not allow the wildcards * and ?", kind)
	}
	switch {
	case kind != networkingv1.PathTypePrefix:
		return []string{p.Path}, nil
	case p.Path == "/":
		return []string{"/*"}, nil
	}
	trimmed := strings.TrimSuffix(p.Path, "/")
	return []string{trimmed, trimmed + "/*"}, nil
}

// conditions joins the conditions annotation of the backend with the rule's host and path: the annotation's
// own first, then host, then path.
func (t *translation) conditions(b networkingv1.IngressBackend, host string, paths []string) ([]model.Condition, error) {
	var hosts []string
	if host != "" {
		hosts = []string{host}
	}
	var custom []model.Condition
	hostAt := model.Condition{Field: "host-header", Values: hosts}
	pathAt := model.Condition{Field: "path-pattern", Values: paths}
	if b.Service != nil {
		suffix := conditionPrefix + b.Service.Name
		if text, ok := t.given.get(suffix); ok {
			parsed, err := parseConditions(text)
			if err != nil {
				return nil, t.given.invalid(suffix, err.Error(), "correct the entry")
			}
			for _, c := range parsed {
				switch c.Field {
				case "host-header":
					hostAt = joined(hostAt, c)
				case "path-pattern":
					pathAt = joined(pathAt, c)
				default:
					custom = append(custom, c)
				}
			}
			for _, c := range []model.Condition{hostAt, pathAt} {
				if len(c.Values) > 0 && len(c.RegexValues) > 0 {
					return nil, t.given.invalid(suffix, c.Field+" mixes literal values and regular expressions", "use one kind in a rule")
				}
			}
		}
	}
	out := custom
	for _, c := range []model.Condition{hostAt, pathAt} {
		if len(c.Values)+len(c.RegexValues) > 0 {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		out = []model.Condition{{Field: "path-pattern", Values: []string{"/*"}}}
	}
	return out, nil
}

func joined(a, b model.Condition) model.Condition {
	a.Values = append(slices.Clone(a.Values), b.Values...)
	a.RegexValues = append(slices.Clone(a.RegexValues), b.RegexValues...)
	return a
}

func fixedResponse(status, body string) model.Action {
	return model.Action{Type: model.ActionFixedResponse, FixedResponse: &model.FixedResponse{ContentType: "text/plain", Body: body, StatusCode: status}}
}
