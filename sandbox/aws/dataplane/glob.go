package dataplane

// glob is a compiled pattern: each element is a byte to match, or one of the wildcards.
type glob struct {
	ops  []uint16
	fold bool
}

const (
	anyOne  uint16 = 256 + iota // ?
	anyMany                     // *
)

// compileGlob reads a pattern in which * stands for any number of characters and ? for exactly one. With fold,
// case does not matter (ASCII). With escapes, a backslash makes the next character literal.
func compileGlob(pattern string, fold, escapes bool) glob {
	g := glob{ops: make([]uint16, 0, len(pattern)), fold: fold}
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\' && escapes && i+1 < len(pattern):
			i++
			g.ops = append(g.ops, g.literal(pattern[i]))
		case c == '*':
			g.ops = append(g.ops, anyMany)
		case c == '?':
			g.ops = append(g.ops, anyOne)
		default:
			g.ops = append(g.ops, g.literal(c))
		}
	}
	return g
}

func (g glob) literal(c byte) uint16 {
	if g.fold && 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return uint16(c)
}

// matches walks the text once; on a mismatch it goes back to the newest star and lets it swallow one byte more,
// which is enough since a later star can do whatever an earlier one could.
func (g glob) matches(text string) bool {
	op, at := 0, 0
	star, retry := -1, 0
	for at < len(text) {
		switch {
		case op < len(g.ops) && g.ops[op] == anyMany:
			star, retry = op, at
			op++
		case op < len(g.ops) && (g.ops[op] == anyOne || g.ops[op] == g.literal(text[at])):
			op++
			at++
		case star >= 0:
			retry++
			op, at = star+1, retry
		default:
			return false
		}
	}
	for op < len(g.ops) && g.ops[op] == anyMany {
		op++
	}
	return op == len(g.ops)
}

// globs holds when any of its patterns matches.
type globs []glob

func compileGlobs(patterns []string, fold, escapes bool) globs {
	all := make(globs, len(patterns))
	for i, p := range patterns {
		all[i] = compileGlob(p, fold, escapes)
	}
	return all
}

func (all globs) match(text string) bool {
	for _, g := range all {
		if g.matches(text) {
			return true
		}
	}
	return false
}
