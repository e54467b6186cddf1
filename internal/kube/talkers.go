package kube

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// The objects that a controller is busiest with: the most often looked at of each span, as existing dashboards know them.
const (
	talkersSpan = 3 * time.Minute
	talkersTold = 3
)

var (
	topTalkers = prometheus.NewDesc("awslbc_controller_top_talkers", "Passes over the three objects of each kind that were looked at most often in the last three minutes that are over.",
		[]string{"controller", "namespace", "name"}, nil)
	passes = &talkers{now: time.Now}
)

func init() { metrics.Registry.MustRegister(passes) }

// CountPass counts one pass of a controller, which is named by the kind of its objects in small letters.
func CountPass(controller string, object types.NamespacedName) { passes.count(controller, object) }

// talkers counts passes by spans of time.
type talkers struct {
	now func() time.Time

	mu    sync.Mutex
	began time.Time
	// counts are those of the present span, told the most frequent ones of the last.
	counts map[talker]int
	told   map[talker]int
}

type talker struct {
	controller string
	object     types.NamespacedName
}

func (t *talkers) count(controller string, object types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn()
	t.counts[talker{controller, object}]++
}

// turn begins a new span when the present one is over. When another one has passed since, nobody talked in it.
func (t *talkers) turn() {
	now := t.now()
	if t.counts == nil {
		t.began, t.counts = now, map[talker]int{}
	}
	spans := now.Sub(t.began) / talkersSpan
	if spans <= 0 {
		return
	}
	if t.told = nil; spans == 1 {
		t.told = most(t.counts)
	}
	t.began, t.counts = t.began.Add(spans*talkersSpan), map[talker]int{}
}

// most are the most frequent ones of each controller.
func most(counts map[talker]int) map[talker]int {
	byController := map[string][]talker{}
	for who := range counts {
		byController[who.controller] = append(byController[who.controller], who)
	}
	top := map[talker]int{}
	for _, all := range byController {
		slices.SortFunc(all, func(a, b talker) int {
			return cmp.Or(counts[b]-counts[a], cmp.Compare(a.object.String(), b.object.String()))
		})
		for _, who := range all[:min(len(all), talkersTold)] {
			top[who] = counts[who]
		}
	}
	return top
}

// Describe names the metric.
func (t *talkers) Describe(to chan<- *prometheus.Desc) { to <- topTalkers }

// Collect tells the last span that is over.
func (t *talkers) Collect(to chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn()
	for who, n := range t.told {
		to <- prometheus.MustNewConstMetric(topTalkers, prometheus.GaugeValue, float64(n), who.controller, who.object.Namespace, who.object.Name)
	}
}
