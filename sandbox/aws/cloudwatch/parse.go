package cloudwatch

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// expression is a parsed expression of metric math.
type expression interface {
	evaluate(q *question) (*value, error)
}

type (
	numeral   float64
	reference string // the id of a query
	text      string // the argument of METRICS
	listing   []expression
	negation  struct{ of expression }
	binary    struct {
		operator    string
		left, right expression
	}
	call struct {
		name      string
		arguments []expression
	}
)

// operators by how closely they bind, the loosest first.
var operators = [][]string{{"||", "OR"}, {"&&", "AND"}, {"==", "!=", "<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/"}, {"^"}}

const (
	maxExpression = 2048
	maxNesting    = 50
)

// parser reads an expression:
//
//	expression = operand { operator operand }
//	operand    = number | "text" | id | NAME "(" [ expression { "," expression } ] ")" | "(" expression ")"
//	           | "[" expression { "," expression } "]" | "-" operand
type parser struct {
	rest    string
	nesting int
}

func parseExpression(source string) (expression, error) {
	if len(source) > maxExpression {
		return nil, fmt.Errorf("it is longer than %d characters", maxExpression)
	}
	p := &parser{rest: source}
	e, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.rest != "" {
		return nil, fmt.Errorf("%.20q is not understood", p.rest)
	}
	return e, nil
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take takes a token if it is next. Names of operators must not go on as a longer name.
func (p *parser) take(token string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, token)
	if !ok || token[0] >= 'A' && token[0] <= 'Z' && rest != "" && nameByte(rest[0]) {
		return false
	}
	p.rest = rest
	return true
}

func nameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_'
}

func (p *parser) binary(level int) (expression, error) {
	if level == len(operators) {
		return p.operand()
	}
	left, err := p.binary(level + 1)
	for err == nil {
		operator := ""
		for _, one := range operators[level] {
			if operator == "" && p.take(one) {
				operator = one
			}
		}
		if operator == "" {
			return left, nil
		}
		var right expression
		if right, err = p.binary(level + 1); err == nil {
			left = binary{operator, left, right}
		}
	}
	return nil, err
}

func (p *parser) operand() (expression, error) {
	if p.nesting++; p.nesting > maxNesting {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxNesting)
	}
	defer func() { p.nesting-- }()
	switch {
	case p.take("-"):
		of, err := p.operand()
		return negation{of}, err
	case p.take("("):
		e, err := p.binary(0)
		if err == nil && !p.take(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return e, err
	case p.take("["):
		list, err := p.list("]")
		return listing(list), err
	case p.take(`"`):
		quoted, rest, ok := strings.Cut(p.rest, `"`)
		if !ok {
			return nil, errors.New("a text is not closed")
		}
		p.rest = rest
		return text(quoted), nil
	}
	return p.word()
}

// word is a number, a name or a call.
func (p *parser) word() (expression, error) {
	end := 0
	for end < len(p.rest) && (nameByte(p.rest[end]) || p.rest[end] == '.') {
		end++
	}
	if end == 0 {
		return nil, fmt.Errorf("something is missing before %.20q", p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	if word[0] >= '0' && word[0] <= '9' || word[0] == '.' {
		n, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", word)
		}
		return numeral(n), nil
	}
	if !p.take("(") {
		return reference(word), nil
	}
	arguments, err := p.list(")")
	if err == nil && functions[strings.ToUpper(word)] == nil {
		err = fmt.Errorf("the function %s is not known, or not modelled", word)
	}
	return call{strings.ToUpper(word), arguments}, err
}

// list reads expressions up to a closing token.
func (p *parser) list(closing string) (list []expression, err error) {
	if p.take(closing) {
		return nil, nil
	}
	for {
		e, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if p.take(closing) {
			return list, nil
		}
		if !p.take(",") {
			return nil, fmt.Errorf("%s or a comma is missing before %.20q", closing, p.rest)
		}
	}
}
