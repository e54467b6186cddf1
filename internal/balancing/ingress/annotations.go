package ingress

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Prefix begins every annotation that this package reads, on Ingresses and on Services.
const Prefix = "alb.ingress.kubernetes.io/"

// InvalidError is a field of a Kubernetes object that cannot be used. Nothing is changed on its account
// until the user corrects it.
type InvalidError struct {
	// Object is the kind, namespace and name: "Ingress shop/web".
	Object string
	Field  string
	Value  string
	// Problem says what is wrong with the value, Remedy what to write instead.
	Problem string
	Remedy  string
}

func (e *InvalidError) Error() string {
	value := e.Value
	if len(value) > 120 {
		value = value[:120] + "..."
	}
	return fmt.Sprintf("%s: %s is %q: %s; %s", e.Object, e.Field, value, e.Problem, e.Remedy)
}

// annotations reads the annotations of one object, or of a Service laid over its Ingress key by key.
type annotations struct {
	// object is whose they are, for errors.
	object string
	own    map[string]string
	// under is asked for what own does not have.
	under *annotations
}

func (a annotations) over(object string, top map[string]string) annotations {
	return annotations{object: object, own: top, under: &a}
}

func (a annotations) get(suffix string) (string, bool) {
	v, ok := a.own[Prefix+suffix]
	if !ok && a.under != nil {
		return a.under.get(suffix)
	}
	return v, ok
}

func (a annotations) text(suffix, fallback string) string {
	if v, ok := a.get(suffix); ok {
		return v
	}
	return fallback
}

func (a annotations) invalid(suffix, problem, remedy string) error {
	v, ok := a.own[Prefix+suffix]
	if !ok && a.under != nil {
		return a.under.invalid(suffix, problem, remedy)
	}
	return &InvalidError{Object: a.object, Field: "annotation " + Prefix + suffix, Value: v, Problem: problem, Remedy: remedy}
}

func (a annotations) oneOf(suffix, fallback string, allowed ...string) (string, error) {
	v := a.text(suffix, fallback)
	if !slices.Contains(allowed, v) {
		return "", a.invalid(suffix, "it is not a known value", "use "+strings.Join(allowed, " or "))
	}
	return v, nil
}

func (a annotations) boolean(suffix string, fallback bool) (bool, error) {
	v, ok := a.get(suffix)
	if !ok {
		return fallback, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, a.invalid(suffix, "it is not a boolean", "use true or false")
	}
	return b, nil
}

func (a annotations) number(suffix string, fallback int32) (int32, error) {
	v, ok := a.get(suffix)
	if !ok {
		return fallback, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return 0, a.invalid(suffix, "it is not a whole number", "use a decimal number such as 15")
	}
	return int32(n), nil
}

func (a annotations) list(suffix string) []string {
	v, _ := a.get(suffix)
	return splitList(v)
}

func splitList(v string) []string {
	var items []string
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func (a annotations) pairs(suffix string) (map[string]string, error) {
	v, ok := a.get(suffix)
	if !ok {
		return nil, nil
	}
	pairs, err := parsePairs(v)
	if err != nil {
		return nil, a.invalid(suffix, err.Error(), "write key=value,key2=value2")
	}
	return pairs, nil
}

// parsePairs reads "k=v,k2=v2". The first = splits key and value, a backslash makes the next character
// literal, and a comma ends a pair only when another = follows later.
func parsePairs(text string) (map[string]string, error) {
	pairs := map[string]string{}
	for rest := text; rest != ""; {
		key, afterKey, found := cutLiteral(rest, '=')
		key = strings.TrimSpace(key)
		if !found {
			return nil, fmt.Errorf("%q has no =", rest)
		}
		if key == "" {
			return nil, fmt.Errorf("a key is empty")
		}
		value, afterValue, more := cutLiteral(afterKey, ',')
		if more && afterValue == "" {
			value, more = value+",", false
		}
		pairs[key] = strings.TrimSpace(value)
		if !more {
			break
		}
		rest = afterValue
	}
	return pairs, nil
}

// cutLiteral cuts text at the first unescaped separator and resolves the escapes before it.
func cutLiteral(text string, separator byte) (before, after string, found bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case text[i] == separator:
			return b.String(), text[i+1:], true
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String(), "", false
}

// The annotations that are translated, without their prefix.
var (
	onIngress = []string{
		"load-balancer-name", "scheme", "ip-address-type", "subnets", "tags", "load-balancer-attributes", "security-groups",
		"inbound-cidrs", "manage-backend-security-group-rules", "listen-ports", "certificate-arn", "ssl-policy", "ssl-redirect", "group.name",
	}
	onTargetGroup = []string{
		"target-type", "backend-protocol", "backend-protocol-version", "target-group-attributes", "tags", "healthcheck-port", "healthcheck-protocol",
		"healthcheck-path", "healthcheck-interval-seconds", "healthcheck-timeout-seconds", "healthy-threshold-count",
		"unhealthy-threshold-count", "success-codes",
	}
)

// refused are annotations that are not supported yet and that say who may get in, where requests go or whose
// targets are whose. Leaving them out would open or misdirect what the user has closed, so that they are an
// error and not a warning. A value listed as harmless asks for nothing.
var refused = map[string][]string{
	"auth-type": {"none"}, "jwt-validation": nil, "mutual-authentication": nil, "security-group-prefix-lists": nil,
	"wafv2-acl-arn": {"none"}, "wafv2-acl-name": {"none"}, "waf-acl-id": {"none"}, "web-acl-id": {"none"},
	"use-regex-path-match": {"false"}, "enable-frontend-nlb": {"false"}, "multi-cluster-target-group": {"false"},
	"customer-owned-ipv4-pool": nil, "ipam-ipv4-pool-id": nil,
}

const transformPrefix = "transforms."

// refusedIn is the first annotation that must not be left out.
func refusedIn(given map[string]string) (suffix string, found bool) {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		suffix, ours := strings.CutPrefix(key, Prefix)
		harmless, listed := refused[suffix]
		if ours && (strings.HasPrefix(suffix, transformPrefix) || listed && !slices.Contains(harmless, given[key])) {
			return suffix, true
		}
	}
	return "", false
}

const (
	actionPrefix    = "actions."
	conditionPrefix = "conditions."
)

// unsupported lists the annotations of our prefix that nothing reads.
func unsupported(given map[string]string, known ...[]string) []string {
	var found []string
	for _, key := range slices.Sorted(maps.Keys(given)) {
		suffix, ours := strings.CutPrefix(key, Prefix)
		if !ours || slices.ContainsFunc(known, func(l []string) bool { return slices.Contains(l, suffix) }) {
			continue
		}
		if _, elsewhere := refused[suffix]; elsewhere || strings.HasPrefix(suffix, actionPrefix) || strings.HasPrefix(suffix, conditionPrefix) {
			continue
		}
		found = append(found, key)
	}
	return found
}
