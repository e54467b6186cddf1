package dataplane

import (
	"fmt"
	"regexp"
	"strings"
)

// RewriteKind says what of a request is rewritten; the values are those of the AWS API.
type RewriteKind string

// The kinds of rewrites.
const (
	RewriteHost RewriteKind = "host-header-rewrite"
	RewriteURL  RewriteKind = "url-rewrite"
)

// Rewrite is a transform of a rule: the first match of Regex in the host (without its port) or the URL (path and query) becomes Replace,
// in which $1 to $9 stand for groups of the match. A request that does not match is left alone; one that would become invalid is
// answered 500.
type Rewrite struct {
	Kind           RewriteKind
	Regex, Replace string
}

type rewrite struct {
	kind     RewriteKind
	regex    *regexp.Regexp
	template string // as package regexp expands it
}

func compileRewrites(given []Rewrite) ([]rewrite, error) {
	var all []rewrite
	for _, r := range given {
		if r.Kind != RewriteHost && r.Kind != RewriteURL {
			return nil, fmt.Errorf("rewrite of unknown kind %q", r.Kind)
		}
		compiled, err := regexp.Compile(r.Regex)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Kind, err)
		}
		all = append(all, rewrite{r.Kind, compiled, expandable(r.Replace)})
	}
	return all, nil
}

// expandable writes $1 as ${1}, so that a digit or letter may follow it, and every other $ as $$.
func expandable(replace string) string {
	var b strings.Builder
	for i := 0; i < len(replace); i++ {
		switch {
		case replace[i] != '$':
			b.WriteByte(replace[i])
		case i+1 < len(replace) && '0' <= replace[i+1] && replace[i+1] <= '9':
			i++
			b.WriteString("${" + replace[i:i+1] + "}")
		default:
			b.WriteString("$$")
		}
	}
	return b.String()
}

// apply replaces the first match in text.
func (r rewrite) apply(text string) string {
	at := r.regex.FindStringSubmatchIndex(text)
	if at == nil {
		return text
	}
	out := r.regex.ExpandString([]byte(text[:at[0]]), r.template, text, at)
	return string(out) + text[at[1]:]
}

// rewrite changes what the target will see; false: the outcome is not a request.
func (x *exchange) rewrite(all []rewrite) bool {
	for _, r := range all {
		switch r.kind {
		case RewriteHost:
			host := r.apply(withoutPort(x.r.Host))
			if strings.Trim(host, "-._~:[]0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || host == "" {
				return false
			}
			if host != withoutPort(x.r.Host) {
				x.hostname = host
			}
		case RewriteURL:
			x.uri = r.apply(x.uri)
			if !strings.HasPrefix(x.uri, "/") || strings.ContainsFunc(x.uri, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
				return false
			}
		}
	}
	return true
}
