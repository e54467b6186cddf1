package rehearsal

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

// PodEnd is the end of one pod's life, as its kubelet saw it.
type PodEnd struct {
	Pod        string `json:"pod"`
	Controller string `json:"controller"`
	Version    string `json:"version"`
	// Stopping is when it was told to stop, Stopped when its last process was gone.
	Stopping time.Time `json:"stopping"`
	Stopped  time.Time `json:"stopped,omitzero"`
	// Requests it answered in its life, health checks not counted; LastAnswer is when the last one was done.
	Requests   int64     `json:"requests"`
	LastAnswer time.Time `json:"lastAnswer,omitzero"`
	// AfterStop counts the requests that it got after it had been told to stop.
	AfterStop int64 `json:"afterStop"`
	// Cut counts the requests under way when it was killed.
	Cut int64 `json:"cut"`
}

// ReplicaSetEnd sums up the ends of a ReplicaSet's pods.
type ReplicaSetEnd struct {
	ReplicaSet string `json:"replicaSet"`
	Version    string `json:"version"`
	Pods       int    `json:"pods"`
	Requests   int64  `json:"requests"`
	// LastAnswer is when the last request to any of its pods was answered; FirstStop when the first of them was
	// told to stop; Gone when the last one was gone.
	LastAnswer time.Time `json:"lastAnswer,omitzero"`
	FirstStop  time.Time `json:"firstStop"`
	Gone       time.Time `json:"gone,omitzero"`
	AfterStop  int64     `json:"afterStop"`
	Cut        int64     `json:"cut"`
}

// graveyard collects what kubelets tell of ending pods.
type graveyard struct {
	mu   sync.Mutex
	pods map[types.UID]*grave
}

type grave struct {
	PodEnd
	before int64 // requests answered or under way when it was told to stop
}

// bury notes a kubelet's notice.
func (g *graveyard) bury(n kubelet.Notice) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pods == nil {
		g.pods = map[types.UID]*grave{}
	}
	pod := g.pods[n.UID]
	switch n.Kind {
	case kubelet.PodStopping:
		if pod == nil {
			g.pods[n.UID] = &grave{
				PodEnd: PodEnd{Pod: n.Pod.String(), Controller: n.Controller, Version: n.Version, Stopping: n.Time},
				before: n.Traffic.Requests + n.Traffic.InFlight,
			}
		}
	case kubelet.PodStopped:
		if pod == nil {
			return // it never ran
		}
		pod.Stopped = n.Time
		pod.Requests, pod.LastAnswer, pod.Cut = n.Traffic.Requests, n.Traffic.LastAnswer, n.Cut
		pod.AfterStop = max(0, n.Traffic.Requests-pod.before)
	}
}

// ends lists the ended pods in the order in which they were told to stop.
func (g *graveyard) ends() []PodEnd {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ends []PodEnd
	for _, pod := range g.pods {
		ends = append(ends, pod.PodEnd)
	}
	slices.SortFunc(ends, func(a, b PodEnd) int { return a.Stopping.Compare(b.Stopping) })
	return ends
}

// byReplicaSet sums the ends up, in the order of the first stop.
func byReplicaSet(pods []PodEnd) []ReplicaSetEnd {
	var sets []ReplicaSetEnd
	for _, p := range pods {
		i := slices.IndexFunc(sets, func(s ReplicaSetEnd) bool { return s.ReplicaSet == p.Controller })
		if i < 0 {
			sets = append(sets, ReplicaSetEnd{ReplicaSet: p.Controller, Version: p.Version, FirstStop: p.Stopping})
			i = len(sets) - 1
		}
		s := &sets[i]
		s.Pods++
		s.Requests += p.Requests
		s.AfterStop += p.AfterStop
		s.Cut += p.Cut
		if p.LastAnswer.After(s.LastAnswer) {
			s.LastAnswer = p.LastAnswer
		}
		if p.Stopped.After(s.Gone) {
			s.Gone = p.Stopped
		}
	}
	return sets
}
