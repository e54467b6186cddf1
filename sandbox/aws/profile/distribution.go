package profile

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Distribution is F(x), fixed; U(a,b), uniform; or L(m,p), log-normal with median m and 99th percentile
// p, cut at 2p. Values are in seconds. The zero Distribution is F(0).
type Distribution struct {
	kind byte
	a, b float64
}

// z99 is the 99th percentile of the standard normal distribution.
const z99 = 2.3263478740408408

// ParseDistribution reads the form that String writes.
func ParseDistribution(text string) (Distribution, error) {
	bad := func(why string) (Distribution, error) {
		return Distribution{}, fmt.Errorf("%q is no distribution (%s): write F(x), U(a,b) or L(median,p99), in seconds", text, why)
	}
	kind, rest, ok := strings.Cut(strings.TrimSpace(text), "(")
	inner, closed := strings.CutSuffix(rest, ")")
	if !ok || !closed || len(kind) != 1 {
		return bad("no such form")
	}
	var numbers []float64
	for part := range strings.SplitSeq(inner, ",") {
		x, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || x < 0 || math.IsInf(x, 0) || math.IsNaN(x) {
			return bad("a number that is not 0 or more")
		}
		numbers = append(numbers, x)
	}
	switch {
	case kind == "F" && len(numbers) == 1:
		return Distribution{'F', numbers[0], numbers[0]}, nil
	case kind == "U" && len(numbers) == 2 && numbers[0] <= numbers[1]:
		return Distribution{'U', numbers[0], numbers[1]}, nil
	case kind == "L" && len(numbers) == 2 && numbers[0] > 0 && numbers[0] <= numbers[1]:
		return Distribution{'L', numbers[0], numbers[1]}, nil
	}
	return bad("number or order of its values")
}

// Quantile is the value, in seconds, that a standard normal draw of z stands for.
func (d Distribution) Quantile(z float64) float64 {
	switch d.kind {
	case 'U':
		return d.a + (d.b-d.a)*0.5*math.Erfc(-z/math.Sqrt2)
	case 'L':
		sigma := math.Log(d.b/d.a) / z99
		return math.Min(d.a*math.Exp(sigma*z), 2*d.b)
	default:
		return d.a
	}
}

// String is the form of the YAML files.
func (d Distribution) String() string {
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	if d.kind == 'U' || d.kind == 'L' {
		return fmt.Sprintf("%c(%s,%s)", d.kind, number(d.a), number(d.b))
	}
	return "F(" + number(d.a) + ")"
}

// UnmarshalJSON reads the text form.
func (d *Distribution) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("a distribution is written as text, such as L(3,20): %w", err)
	}
	parsed, err := ParseDistribution(s)
	*d = parsed
	return err
}

// MarshalJSON writes the text form.
func (d Distribution) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }
