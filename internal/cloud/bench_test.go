package cloud_test

import (
	"testing"

	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// What a plan costs when nothing is to be read: one stack of an account with 1,000 load balancers and 2,000
// target groups, from the mirror.
//
//	go test -run '^$' -bench . -benchmem ./internal/cloud
func BenchmarkStackFromTheMirror(b *testing.B) {
	f := newFake()
	f.others = 1000
	c := f.connect(b, cloud.Settings{CallMargin: 1000})
	for {
		observed, err := c.Stack(b.Context(), "shop/web")
		if err != nil {
			b.Fatal(err)
		}
		if observed.Complete {
			break
		}
	}
	f.forgetCalls()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Stack(b.Context(), "shop/web"); err != nil {
			b.Fatal(err)
		}
	}
	if n := f.made(""); n != 0 {
		b.Errorf("%d calls", n)
	}
}

// One weight from the caller to AWS and back, over an in-memory network.
func BenchmarkModifyRule(b *testing.B) {
	f := newFake()
	c := f.connect(b, cloud.Settings{CallMargin: 1e6})
	if _, err := c.Stack(b.Context(), "shop/web"); err != nil {
		b.Fatal(err)
	}
	weight := int32(0)
	b.ReportAllocs()
	for b.Loop() {
		weight = (weight + 1) % 100
		if err := c.ModifyRule(b.Context(), ruleARN, split(100-weight, weight), nil); err != nil {
			b.Fatal(err)
		}
	}
}
