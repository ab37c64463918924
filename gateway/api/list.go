package api

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
)

// Page is a part of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the following part. Empty: this is the last.
	Next string `json:"next"`
}

// Bounds of ?limit=, the most items of a page.
const (
	limitDefault = 50
	limitMost    = 500
)

func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	limit, err := strconv.Atoi(cmp.Or(text, strconv.Itoa(limitDefault)))
	if err != nil || limit < 1 || limit > limitMost {
		return 0, invalid("--limit: %q is not a number of items: allowed is 1 to %d", text, limitMost)
	}
	return limit, nil
}

// cursorOf gives the key that is in ?cursor=, or nothing.
func cursorOf(q url.Values) (key string, err error) {
	text := q.Get("cursor")
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", notACursor(text)
	}
	return string(decoded), nil
}

func notACursor(text string) error {
	return invalid("the cursor %.200q is of no answer: allowed is the next of the page before, or nothing", text)
}

func cursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

// pages are the parameters of pageOf.
var pages = []string{"limit", "cursor"}

// pageOf gives a page of a list, by ?limit= and ?cursor=. key is unique, never empty, and
// never changes; the greatest is first. So where greater keys are newer, no page misses an item or has
// one twice while others come or go.
func pageOf[T any](q url.Values, all []T, key func(T) string) (Page[T], error) {
	page := Page[T]{Items: []T{}}
	limit, err := limitOf(q)
	if err != nil {
		return page, err
	}
	after, err := cursorOf(q)
	if err != nil {
		return page, err
	}
	items := slices.SortedFunc(slices.Values(all), func(a, b T) int { return cmp.Compare(key(b), key(a)) })
	if after != "" {
		items = slices.DeleteFunc(items, func(item T) bool { return key(item) >= after })
	}
	if len(items) > limit {
		items = items[:limit]
		page.Next = cursor(key(items[limit-1]))
	}
	page.Items = append(page.Items, items...)
	return page, nil
}
