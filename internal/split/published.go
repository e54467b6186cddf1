package split

import (
	"strconv"
	"strings"
	"time"
)

// published reads an annotation that is byte for byte as Encode writes it, which nearly all are, without the cost
// of encoding/json: a rollout reads its annotation in every round. It is false for everything else, be it valid or
// not, and Decode then reads the JSON.
func published(annotation string) (Split, bool) {
	r := reader{rest: annotation}
	var s Split
	r.skip(`{"Type":"forward","ForwardConfig":{"TargetGroups":[`)
	for more := true; more && !r.failed; more = r.may(",") {
		var d Destination
		r.skip(`{"ServiceName":"`)
		d.Service = r.name()
		r.skip(`","ServicePort":"`)
		d.Port = r.name()
		r.skip(`","Weight":`)
		d.Weight = int32(r.number())
		r.skip(`}`)
		s.Destinations = append(s.Destinations, d)
	}
	r.skip(`]`)
	if r.may(`,"TargetGroupStickinessConfig":{"Enabled":true,"DurationSeconds":`) {
		s.Stickiness = time.Duration(r.number()) * time.Second
		r.skip(`}`)
		r.failed = r.failed || s.Stickiness == 0
	}
	r.skip(`}}`)
	return s, !r.failed && r.rest == "" && s.Validate() == nil
}

// reader takes an annotation from its front; what does not fit makes it fail for good.
type reader struct {
	rest   string
	failed bool
}

func (r *reader) may(text string) bool {
	rest, ok := strings.CutPrefix(r.rest, text)
	r.rest = rest
	return ok
}

func (r *reader) skip(text string) { r.failed = !r.may(text) || r.failed }

// name takes the letters, digits, dots and hyphens of which names and ports in Kubernetes consist.
func (r *reader) name() string {
	n := strings.IndexFunc(r.rest, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.'
	})
	if n <= 0 {
		r.failed = true
		return ""
	}
	name := r.rest[:n]
	r.rest = r.rest[n:]
	return name
}

// number takes up to six digits, as JSON writes them: without a zero before others.
func (r *reader) number() int {
	n := 0
	for n < len(r.rest) && r.rest[n] >= '0' && r.rest[n] <= '9' {
		n++
	}
	if n == 0 || n > 6 || n > 1 && r.rest[0] == '0' {
		r.failed = true
		return 0
	}
	value, err := strconv.Atoi(r.rest[:n])
	r.failed = r.failed || err != nil
	r.rest = r.rest[n:]
	return value
}
