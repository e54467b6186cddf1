package kube

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

func TestTopTalkersAreTheThreeBusiestOfEachKind(t *testing.T) {
	now := time.Unix(0, 0)
	counted := &talkers{now: func() time.Time { return now }}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(counted)
	told := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, family := range families {
			for _, m := range family.Metric {
				name := family.GetName()
				for _, l := range m.Label {
					name += " " + l.GetName() + "=" + l.GetValue()
				}
				got[name] = m.GetGauge().GetValue()
			}
		}
		return got
	}
	talk := func(controller, name string, times int) {
		for range times {
			counted.count(controller, types.NamespacedName{Namespace: "shop", Name: name})
		}
	}
	const begin, web = "awslbc_controller_top_talkers controller=", "awslbc_controller_top_talkers controller=ingress name=web namespace=shop"
	for name, times := range map[string]int{"a": 4, "b": 7, "c": 1, "d": 9} {
		talk("ingress", name, times)
	}
	talk("targetgroupbinding", "c", 2)
	if got := told(); len(got) > 0 {
		t.Errorf("told before the span is over: %v", got)
	}
	now = now.Add(talkersSpan)
	want := map[string]float64{
		begin + "ingress name=d namespace=shop": 9, begin + "ingress name=b namespace=shop": 7, begin + "ingress name=a namespace=shop": 4,
		begin + "targetgroupbinding name=c namespace=shop": 2,
	}
	if diff := cmp.Diff(want, told()); diff != "" {
		t.Error(diff)
	}
	talk("ingress", "web", 1)
	now = now.Add(talkersSpan)
	if diff := cmp.Diff(map[string]float64{web: 1}, told()); diff != "" {
		t.Errorf("the next span: %s", diff)
	}
	talk("ingress", "web", 1)
	now = now.Add(2 * talkersSpan)
	if got := told(); len(got) > 0 {
		t.Errorf("nobody talked in the last span: %v", got)
	}
}
