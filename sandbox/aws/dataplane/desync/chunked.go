package desync

// Body finds the end of a body while its bytes pass by. The zero value has ended.
type Body struct {
	left int64 // bytes of the body, or of the chunk
	at   step
}

// step is where in a body in chunks the next byte is.
type step int

const (
	none step = iota // not in chunks
	size
	firstDigit
	extension
	sizeEnd
	data
	dataEnd
	dataLineEnd
	trailerStart
	trailer
	trailerLineEnd
	lastLineEnd
)

// NewBody is at the beginning of the body of a request.
func NewBody(length int64) Body {
	if length == Chunked {
		return Body{at: firstDigit}
	}
	return Body{left: length}
}

// Ended is true when no byte is missing.
func (b *Body) Ended() bool { return b.at == none && b.left == 0 }

// Take says how many bytes of p belong to the body. It is false where what comes next is no chunk: the end of the body cannot be known.
func (b *Body) Take(p []byte) (n int, ok bool) {
	for n < len(p) && !b.Ended() {
		if b.at == none || b.at == data {
			skip := min(int64(len(p)-n), b.left)
			n += int(skip)
			b.left -= skip
			if b.left == 0 && b.at == data {
				b.at = dataEnd
			}
			continue
		}
		if !b.next(p[n]) {
			return n, false
		}
		n++
	}
	return n, true
}

// next takes a byte that frames data. Lines end with CR LF and nothing else.
func (b *Body) next(c byte) bool {
	switch b.at {
	case firstDigit, size:
		return b.sizeDigit(c)
	case extension:
		if c == '\r' {
			b.at = sizeEnd
		}
		return c != '\n'
	case sizeEnd:
		b.at = data
		if b.left == 0 {
			b.at = trailerStart
		}
		return c == '\n'
	case dataEnd:
		b.at = dataLineEnd
		return c == '\r'
	case dataLineEnd:
		b.at = firstDigit
		return c == '\n'
	case trailerStart, trailer:
		switch {
		case c == '\r' && b.at == trailerStart:
			b.at = lastLineEnd
		case c == '\r':
			b.at = trailerLineEnd
		default:
			b.at = trailer
		}
		return c != '\n'
	case trailerLineEnd:
		b.at = trailerStart
		return c == '\n'
	default: // lastLineEnd
		if c == '\n' {
			b.at = none
		}
		return c == '\n'
	}
}

func (b *Body) sizeDigit(c byte) bool {
	first := b.at == firstDigit
	b.at = size
	digit := int64(-1)
	switch {
	case '0' <= c && c <= '9':
		digit = int64(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		digit = int64(c|0x20-'a') + 10
	case first:
		return false
	case c == '\r':
		b.at = sizeEnd
		return true
	default:
		b.at = extension
		return c == ';' || c == ' ' || c == '\t'
	}
	b.left = b.left<<4 | digit
	return b.left < 1<<56
}
