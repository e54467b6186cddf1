package elbv2

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const largestPage = 400

// page cuts the page that is asked for out of things that are sorted by key. Markers name the last
// thing of the page before.
func page[T any](sorted []T, key func(T) string, marker *string, size *int32) (found []T, next *string, err error) {
	limit, err := pageSize(size)
	if err != nil {
		return nil, nil, err
	}
	if marker != nil && *marker != "" {
		last, err := readMarker(*marker)
		if err != nil {
			return nil, nil, err
		}
		i := slices.IndexFunc(sorted, func(one T) bool { return key(one) > last })
		if i < 0 {
			return nil, nil, nil
		}
		sorted = sorted[i:]
	}
	if len(sorted) <= limit {
		return sorted, nil, nil
	}
	sorted = sorted[:limit]
	return sorted, new(writeMarker(key(sorted[limit-1]))), nil
}

func pageSize(size *int32) (int, error) {
	if size == nil {
		return largestPage, nil
	}
	if *size < 1 || *size > largestPage {
		return 0, wire.Errorf("ValidationError", "1 validation error detected: Value '%d' at 'pageSize' failed to satisfy constraint: Member must be between 1 and %d", *size, largestPage)
	}
	return int(*size), nil
}

func writeMarker(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func readMarker(marker string) (string, error) {
	text, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil || len(text) == 0 {
		return "", wire.Errorf("ValidationError", "The marker '%.40s' is invalid", marker)
	}
	return string(text), nil
}

// rulePage is page for rules, which are sorted by priority and can change places between two pages. The marker names all rules that
// are still to come, so that each is on one page, where it stood when the first page was read.
func rulePage(sorted []types.Rule, marker *string, size *int32) (found []types.Rule, next *string, err error) {
	limit, err := pageSize(size)
	if err != nil {
		return nil, nil, err
	}
	id := func(v types.Rule) string { return (*v.RuleArn)[strings.LastIndex(*v.RuleArn, "/")+1:] }
	if marker != nil && *marker != "" {
		text, err := readMarker(*marker)
		if err != nil {
			return nil, nil, err
		}
		left := []types.Rule{}
		for one := range strings.SplitSeq(text, ",") {
			if len(one) != 16 {
				return nil, nil, wire.Errorf("ValidationError", "The marker '%.40s' is invalid", *marker)
			}
			if i := slices.IndexFunc(sorted, func(v types.Rule) bool { return id(v) == one }); i >= 0 {
				left = append(left, sorted[i])
			}
		}
		sorted = left
	}
	if len(sorted) <= limit {
		return sorted, nil, nil
	}
	var later []string
	for _, v := range sorted[limit:] {
		later = append(later, id(v))
	}
	return sorted[:limit], new(writeMarker(strings.Join(later, ","))), nil
}
