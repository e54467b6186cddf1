package elbv2

import (
	"encoding/base64"
	"slices"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const largestPage = 400

// page cuts the page that is asked for out of things that are sorted by key. Markers name the last
// thing of the page before.
func page[T any](sorted []T, key func(T) string, marker *string, size *int32) (found []T, next *string, err error) {
	if size != nil && (*size < 1 || *size > largestPage) {
		return nil, nil, wire.Errorf("ValidationError", "1 validation error detected: Value '%d' at 'pageSize' failed to satisfy constraint: Member must be between 1 and %d", *size, largestPage)
	}
	limit := largestPage
	if size != nil {
		limit = int(*size)
	}
	if marker != nil && *marker != "" {
		last, err := base64.RawURLEncoding.DecodeString(*marker)
		if err != nil || len(last) == 0 {
			return nil, nil, wire.Errorf("ValidationError", "The marker '%.40s' is invalid", *marker)
		}
		i := slices.IndexFunc(sorted, func(one T) bool { return key(one) > string(last) })
		if i < 0 {
			return nil, nil, nil
		}
		sorted = sorted[i:]
	}
	if len(sorted) <= limit {
		return sorted, nil, nil
	}
	sorted = sorted[:limit]
	return sorted, new(base64.RawURLEncoding.EncodeToString([]byte(key(sorted[limit-1])))), nil
}
