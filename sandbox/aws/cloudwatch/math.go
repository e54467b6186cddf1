package cloudwatch

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// kind is what an expression gives.
type kind int

const (
	scalar kind = iota
	oneSeries
	manySeries
)

// value is a number, a time series or several.
type value struct {
	kind   kind
	number float64
	series []timeSeries
}

// timeSeries are numbers by the start of their period, in seconds since 1970.
type timeSeries struct {
	period int64
	at     map[int64]float64
}

// functions are those of metric math that are modelled.
var functions map[string]func(q *question, c call) (*value, error)

func init() { // the table refers to functions that refer to the table
	functions = map[string]func(*question, call) (*value, error){
		"SUM": aggregate(func(x []float64) float64 { return total(x) }),
		"AVG": aggregate(func(x []float64) float64 { return total(x) / float64(len(x)) }),
		"MIN": aggregate(slices.Min[[]float64]), "MAX": aggregate(slices.Max[[]float64]),
		"ABS": each(math.Abs), "CEIL": each(math.Ceil), "FLOOR": each(math.Floor),
		"FILL": fill, "IF": choose, "METRICS": metrics, "RATE": rate, "PERIOD": period,
	}
}

func total(x []float64) (sum float64) {
	for _, v := range x {
		sum += v
	}
	return sum
}

func number(n float64) *value { return &value{number: n} }

// evaluate gives the value of a query. A query that refers to itself has none.
func (q *question) evaluate(id string) (*value, error) {
	n := q.byID[id]
	switch {
	case n == nil:
		return nil, fmt.Errorf("there is no query '%s'", id)
	case n.value != nil:
		return n.value, nil
	case n.busy:
		return nil, fmt.Errorf("'%s' refers to itself", id)
	}
	n.busy = true
	v, err := n.expression.evaluate(q)
	n.busy = false
	n.value = v
	return v, err
}

func (n numeral) evaluate(*question) (*value, error)     { return number(float64(n)), nil }
func (r reference) evaluate(q *question) (*value, error) { return q.evaluate(string(r)) }
func (t text) evaluate(*question) (*value, error) {
	return nil, fmt.Errorf("the text %q is out of place", string(t))
}

func (l listing) evaluate(q *question) (*value, error) {
	all := &value{kind: manySeries}
	for _, e := range l {
		v, err := e.evaluate(q)
		if err != nil {
			return nil, err
		}
		if v.kind == scalar {
			return nil, errors.New("a list can have time series only")
		}
		all.series = append(all.series, v.series...)
	}
	return all, nil
}

func (c call) evaluate(q *question) (*value, error) { return functions[c.name](q, c) }

func (n negation) evaluate(q *question) (*value, error) {
	return binary{"-", numeral(0), n.of}.evaluate(q)
}

func (b binary) evaluate(q *question) (*value, error) {
	left, err := b.left.evaluate(q)
	if err != nil {
		return nil, err
	}
	right, err := b.right.evaluate(q)
	if err != nil {
		return nil, err
	}
	return combine(left, right, func(x, y float64) (float64, bool) { return operate(b.operator, x, y) })
}

// operate is false for what has no value, such as a division by 0.
func operate(operator string, x, y float64) (float64, bool) {
	truth := func(t bool) (float64, bool) {
		if t {
			return 1, true
		}
		return 0, true
	}
	switch operator {
	case "+":
		return x + y, true
	case "-":
		return x - y, true
	case "*":
		return x * y, true
	case "/":
		return x / y, y != 0
	case "^":
		p := math.Pow(x, y)
		return p, !math.IsNaN(p) && !math.IsInf(p, 0)
	case "<":
		return truth(x < y)
	case ">":
		return truth(x > y)
	case "<=":
		return truth(x <= y)
	case ">=":
		return truth(x >= y)
	case "==":
		return truth(x == y)
	case "!=":
		return truth(x != y)
	case "&&", "AND":
		return truth(x != 0 && y != 0)
	}
	return truth(x != 0 || y != 0)
}

// combine works on two values, point by point: those that both have.
func combine(left, right *value, f func(x, y float64) (float64, bool)) (*value, error) {
	switch {
	case left.kind == manySeries && right.kind == manySeries:
		return nil, errors.New("two lists of time series cannot be combined")
	case left.kind == scalar && right.kind == scalar:
		n, ok := f(left.number, right.number)
		if !ok {
			return nil, errors.New("it has no value")
		}
		return number(n), nil
	}
	out := &value{kind: max(left.kind, right.kind)}
	if left.kind == manySeries && len(left.series) == 0 || right.kind == manySeries && len(right.series) == 0 {
		return out, nil
	}
	for i := range max(len(left.series), len(right.series)) {
		out.series = append(out.series, left.pick(i).combine(right.pick(i), f))
	}
	return out, nil
}

// operand is a series, or a number that stands for one.
type operand struct {
	timeSeries
	number float64
}

// pick is the i-th series of a list, or the only one, or the number.
func (v *value) pick(i int) operand {
	if v.kind == scalar {
		return operand{number: v.number}
	}
	return operand{timeSeries: v.series[min(i, len(v.series)-1)]}
}

func (o operand) value(at int64) (float64, bool) {
	if o.at == nil {
		return o.number, true
	}
	v, ok := o.at[at]
	return v, ok
}

func (o operand) combine(other operand, f func(x, y float64) (float64, bool)) timeSeries {
	out := timeSeries{period: max(o.period, other.period), at: map[int64]float64{}}
	times := o.at
	if times == nil {
		times = other.at
	}
	for at := range times {
		x, first := o.value(at)
		y, second := other.value(at)
		if !first || !second {
			continue
		}
		if v, ok := f(x, y); ok {
			out.at[at] = v
		}
	}
	return out
}

// values evaluates the arguments of a call, of which there must be between least and most.
func (c call) values(q *question, least, most int) ([]*value, error) {
	if len(c.arguments) < least || len(c.arguments) > most {
		return nil, fmt.Errorf("%s takes %d to %d arguments, not %d", c.name, least, most, len(c.arguments))
	}
	var all []*value
	for _, e := range c.arguments {
		v, err := e.evaluate(q)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// aggregate makes a number of one series, and one series of several.
func aggregate(f func([]float64) float64) func(*question, call) (*value, error) {
	return func(q *question, c call) (*value, error) {
		given, err := c.values(q, 1, 1)
		if err != nil {
			return nil, err
		}
		switch v := given[0]; v.kind {
		case scalar:
			return v, nil
		case oneSeries:
			all := slices.Collect(maps.Values(v.series[0].at))
			if len(all) == 0 {
				return number(0), nil
			}
			return number(f(all)), nil
		default:
			out := timeSeries{at: map[int64]float64{}}
			at := map[int64][]float64{}
			for _, one := range v.series {
				out.period = max(out.period, one.period)
				for t, x := range one.at {
					at[t] = append(at[t], x)
				}
			}
			for t, all := range at {
				out.at[t] = f(all)
			}
			return &value{kind: oneSeries, series: []timeSeries{out}}, nil
		}
	}
}

// each works on every point.
func each(f func(float64) float64) func(*question, call) (*value, error) {
	return func(q *question, c call) (*value, error) {
		given, err := c.values(q, 1, 1)
		if err != nil {
			return nil, err
		}
		return combine(given[0], number(0), func(x, _ float64) (float64, bool) { return f(x), true })
	}
}

// fill puts a value where a series has none: a number, that of another series, or with REPEAT the one before.
func fill(q *question, c call) (*value, error) {
	if len(c.arguments) != 2 {
		return nil, errors.New("FILL takes 2 arguments")
	}
	of, err := c.arguments[0].evaluate(q)
	if err != nil {
		return nil, err
	}
	if of.kind == scalar {
		return nil, errors.New("FILL needs a time series")
	}
	repeat := c.arguments[1] == expression(reference("REPEAT"))
	with := number(0)
	if !repeat {
		if with, err = c.arguments[1].evaluate(q); err != nil {
			return nil, err
		}
		if with.kind == manySeries {
			return nil, errors.New("FILL cannot fill with several time series")
		}
	}
	out := &value{kind: of.kind}
	for _, one := range of.series {
		filled := timeSeries{one.period, maps.Clone(one.at)}
		w := newWindow(q.start, q.end, max(one.period, 60))
		last, known := 0.0, false
		for at := w.start; at < w.end; at += w.period {
			v, ok := one.at[at]
			switch {
			case ok:
				last, known = v, true
			case repeat && known:
				filled.at[at] = last
			case !repeat:
				if v, ok := with.pick(0).value(at); ok {
					filled.at[at] = v
				}
			}
		}
		out.series = append(out.series, filled)
	}
	return out, nil
}

// choose is IF(condition, value, otherwise): without the last, points that do not meet the condition are left out.
func choose(q *question, c call) (*value, error) {
	given, err := c.values(q, 2, 3)
	if err != nil {
		return nil, err
	}
	for _, v := range given {
		if v.kind == manySeries {
			return nil, errors.New("IF takes single time series and numbers")
		}
	}
	condition := given[0]
	if condition.kind == scalar {
		switch {
		case condition.number != 0:
			return given[1], nil
		case len(given) == 3:
			return given[2], nil
		}
		return nil, errors.New("it has no value")
	}
	out := timeSeries{period: condition.series[0].period, at: map[int64]float64{}}
	for at, truth := range condition.series[0].at {
		branch := given[1]
		if truth == 0 {
			if len(given) < 3 {
				continue
			}
			branch = given[2]
		}
		if v, ok := branch.pick(0).value(at); ok {
			out.at[at] = v
		}
	}
	return &value{kind: oneSeries, series: []timeSeries{out}}, nil
}

// metrics are all metrics of the call, or those whose ids contain a text.
func metrics(q *question, c call) (*value, error) {
	part := ""
	if len(c.arguments) > 0 {
		named, ok := c.arguments[0].(text)
		if !ok || len(c.arguments) > 1 {
			return nil, errors.New("METRICS takes at most one text")
		}
		part = string(named)
	}
	all := &value{kind: manySeries}
	for _, query := range q.queries {
		if n := q.byID[*query.Id]; n.metric != nil && strings.Contains(*query.Id, part) {
			all.series = append(all.series, n.value.series...)
		}
	}
	return all, nil
}

// rate is the change per second from one point to the next.
func rate(q *question, c call) (*value, error) {
	given, err := c.values(q, 1, 1)
	if err != nil {
		return nil, err
	}
	if given[0].kind == scalar {
		return nil, errors.New("RATE needs a time series")
	}
	out := &value{kind: given[0].kind}
	for _, one := range given[0].series {
		changes := timeSeries{one.period, map[int64]float64{}}
		order := slices.Sorted(maps.Keys(one.at))
		for i := 1; i < len(order); i++ {
			changes.at[order[i]] = (one.at[order[i]] - one.at[order[i-1]]) / float64(order[i]-order[i-1])
		}
		out.series = append(out.series, changes)
	}
	return out, nil
}

// period is the period of a series in seconds.
func period(q *question, c call) (*value, error) {
	given, err := c.values(q, 1, 1)
	if err != nil {
		return nil, err
	}
	if given[0].kind != oneSeries {
		return nil, errors.New("PERIOD needs one time series")
	}
	return number(float64(given[0].series[0].period)), nil
}
