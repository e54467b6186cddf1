package ingressgroup

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkWeightChange measures from the beginning of the write of the annotation to the receipt of ModifyRule at
// AWS's endpoint. A few changes fit into the burst of the call budget; then it would measure the budget.
//
//	go test ./internal/balancing/ingressgroup -run XXX -bench WeightChange -benchtime 12x
func BenchmarkWeightChange(b *testing.B) {
	e, namespace := newNamespace(b)
	o := e.newIngress(b, namespace, map[string]string{actionRoot: weights(b, 0, 100)})
	e.waitForHostname(b, o)
	e.waitForWeights(b, o, 0, 100)
	e.rest(b, o)
	var took []time.Duration
	canary := int32(0)
	for b.Loop() {
		canary = canary%99 + 1
		newest := e.newest()
		begun := time.Now()
		e.annotate(b, o, actionRoot, weights(b, canary, 100-canary))
		e.waitForWeights(b, o, canary, 100-canary)
		for _, r := range e.emulator.Journal().Since(newest) {
			if r.Operation == "ModifyRule" {
				took = append(took, r.Received.Sub(begun))
			}
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-max")
	b.ReportMetric(float64(len(took))/float64(b.N), "ModifyRule/op")
}
