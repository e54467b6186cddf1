// Package paging cuts lists into the pages that a caller asks for. A token names the last thing of the
// page before, so that things that come and go between two pages shift nothing.
package paging

import (
	"encoding/base64"
	"errors"
	"slices"
)

// ErrToken is for a token that no page ended with.
var ErrToken = errors.New("the token of the next page is not valid")

// Cut returns the page behind token, of at most limit things, from a list that is sorted by key; and the
// token of the next page, nil at the end. The zero values of token mean the first page.
func Cut[T any](sorted []T, key func(T) string, token *string, limit int) (page []T, next *string, err error) {
	if token != nil && *token != "" {
		last, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil || len(last) == 0 {
			return nil, nil, ErrToken
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
	return sorted[:limit], new(base64.RawURLEncoding.EncodeToString([]byte(key(sorted[limit-1])))), nil
}
