package simulation

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// The lane that the simulation takes for a call that changes something is the one that internal/cloud makes it on.
func TestLanesAreThoseOfProduction(t *testing.T) {
	files, err := filepath.Glob("../internal/cloud/*.go")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			operation, lane, ok := write(n)
			if !ok {
				return true
			}
			calls++
			if got := laneOf(operation).String(); got != lane {
				t.Errorf("%s: %s is made on lane %s, the simulation takes lane %s for it", name, operation, lane, got)
			}
			return true
		})
	}
	if calls < 20 {
		t.Errorf("only %d calls were found: the test does not know any more what one looks like", calls)
	}
}

// write reads writeELB(ctx, c, budget.Traffic, arn, (*elb.Client).ModifyRule, in) and the like.
func write(n ast.Node) (operation, lane string, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) < 5 {
		return "", "", false
	}
	function, _ := call.Fun.(*ast.Ident)
	on, _ := call.Args[2].(*ast.SelectorExpr)
	method, _ := call.Args[4].(*ast.SelectorExpr)
	if function == nil || on == nil || method == nil || function.Name != "writeELB" && function.Name != "writeEC2" {
		return "", "", false
	}
	return method.Sel.Name, strings.ToLower(on.Sel.Name), true
}
