package volume

import "strings"

// Relocation moves the paths at which a container mounts volumes to where they are.
type Relocation struct {
	// Root is the pod's folder, below which everything is.
	Root string
	// To is where what is mounted at a path is.
	To map[string]string
}

// Relocate returns text in which each of the paths, and what is below it, is found where it is. Text is a whole argument, a
// script or the value of a variable: a path is taken for one where it begins like a word (after a blank, a quote, =, :, ...)
// and where its last name ends. moved reports whether there was one.
func (r Relocation) Relocate(text string) (result string, moved bool) {
	var b strings.Builder
	from := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '/' || !begins(text[:i]) {
			continue
		}
		if strings.HasPrefix(text[i:], r.Root+"/") { // it is there already
			i += len(r.Root)
			continue
		}
		path := r.longest(text[i:])
		if path == "" {
			continue
		}
		b.WriteString(text[from:i])
		b.WriteString(r.To[path])
		i += len(path) - 1
		from, moved = i+1, true
	}
	b.WriteString(text[from:])
	return b.String(), moved
}

// longest returns the longest path with which text begins; empty: there is none.
func (r Relocation) longest(text string) (found string) {
	for path := range r.To {
		if len(path) > len(found) && strings.HasPrefix(text, path) && ends(text[len(path):]) {
			found = path
		}
	}
	return found
}

// Safe reports whether the root can stand in a script without quotes.
func (r Relocation) Safe() bool {
	return strings.IndexFunc(r.Root, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("/._-+,=@", c))
	}) < 0
}

// begins reports whether a path can begin after this text. A quote that closes, as in "$DIR"/data, lets none begin.
func begins(before string) bool {
	before = strings.TrimRight(before, `"'`+"`")
	return before == "" || strings.IndexByte(" \t\r\n=:,;|&()[{<>@-!", before[len(before)-1]) >= 0
}

// ends reports whether the last name of a path has ended before this text. Where it goes on with a variable or a pattern, nobody
// knows.
func ends(after string) bool {
	if after == "" {
		return true
	}
	c := after[0]
	name := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80 || strings.IndexByte("_-.+~%$*?[{", c) >= 0
	return !name
}
