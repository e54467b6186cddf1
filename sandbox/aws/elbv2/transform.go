package elbv2

import (
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Limits of regular expressions: in a condition, and in a transform.
const (
	maxConditionRegex = 128
	maxTransformText  = 1024
)

// checkTransforms validates the transforms of a rule: at most one of each type, each with one rewrite.
func checkTransforms(given []types.RuleTransform) error {
	var seen []types.TransformTypeEnum
	for _, t := range given {
		if !slices.Contains(t.Type.Values(), t.Type) {
			return invalidEnum("transforms.type", t.Type)
		}
		if slices.Contains(seen, t.Type) {
			return wire.Errorf("ValidationError", "A rule can have only one transform of type %s", t.Type)
		}
		seen = append(seen, t.Type)
		rewrites, other := rewritesOf(t)
		switch {
		case other:
			return wire.Errorf("ValidationError", "A transform of type %s takes only the config of that type", t.Type)
		case len(rewrites) != 1:
			return wire.Errorf("ValidationError", "A transform of type %s must have exactly one rewrite", t.Type)
		case deref(rewrites[0].Regex) == "" || rewrites[0].Replace == nil:
			return wire.Errorf("ValidationError", "A rewrite must have both a regex and a replacement")
		case len(*rewrites[0].Regex) > maxTransformText || len(*rewrites[0].Replace) > maxTransformText:
			return wire.Errorf("ValidationError", "The regex and the replacement of a rewrite must have at most %d characters", maxTransformText)
		}
		if err := checkRegex(*rewrites[0].Regex, maxTransformText); err != nil {
			return err
		}
	}
	return nil
}

// rewritesOf returns the rewrites of a transform, and whether there is a config of the other type.
func rewritesOf(t types.RuleTransform) (rewrites []types.RewriteConfig, other bool) {
	if t.Type == types.TransformTypeEnumHostHeaderRewrite {
		if t.HostHeaderRewriteConfig != nil {
			rewrites = t.HostHeaderRewriteConfig.Rewrites
		}
		return rewrites, t.UrlRewriteConfig != nil
	}
	if t.UrlRewriteConfig != nil {
		rewrites = t.UrlRewriteConfig.Rewrites
	}
	return rewrites, t.HostHeaderRewriteConfig != nil
}

// checkRegex refuses what AWS refuses: look-around, back-references, possessive quantifiers and the like, none of which Go takes either, and
// classes of Unicode characters.
func checkRegex(text string, limit int) error {
	if text == "" || len(text) > limit {
		return wire.Errorf("ValidationError", "A regular expression must have 1 to %d characters", limit)
	}
	if _, err := regexp.Compile(text); err != nil || strings.Contains(text, `\p`) || strings.Contains(text, `\P`) {
		return wire.Errorf("ValidationError", "The regular expression '%.140s' is not valid or uses a feature that is not supported", text)
	}
	return nil
}

func dataplaneRewrites(transforms []types.RuleTransform) []dataplane.Rewrite {
	var list []dataplane.Rewrite
	for _, t := range transforms {
		rewrites, _ := rewritesOf(t)
		for _, r := range rewrites {
			list = append(list, dataplane.Rewrite{Kind: dataplane.RewriteKind(t.Type), Regex: deref(r.Regex), Replace: deref(r.Replace)})
		}
	}
	return list
}
