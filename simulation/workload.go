package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// workload is what makes pods out of ReplicaSets: the ReplicaSet controller and the kubelets.
type workload struct {
	w *world
	// pending are the ReplicaSets that will be looked at.
	pending map[string]bool
	// processes are by address; an address is given again when its pod has gone.
	processes map[string]*process
	free      []string
	made      int
}

func newWorkload(w *world) *workload {
	k := &workload{w: w, pending: map[string]bool{}, processes: map[string]*process{}}
	for i := range 40 {
		k.free = append(k.free, fmt.Sprintf("10.0.0.%d", 10+i))
	}
	return k
}

// poke has the ReplicaSet controller look at a ReplicaSet soon.
func (k *workload) poke(name string) {
	if k.pending[name] {
		return
	}
	k.pending[name] = true
	k.w.after(k.w.between(5*time.Millisecond, 150*time.Millisecond), func() {
		delete(k.pending, name)
		k.sync(name)
	})
}

// podsOf are the pods of a ReplicaSet that are not being deleted, and all of them.
func (k *workload) podsOf(hash string) (alive, all []string) {
	for _, o := range k.w.pods.live.objects {
		if o.value.hash != hash {
			continue
		}
		all = append(all, o.name)
		if !o.value.terminating {
			alive = append(alive, o.name)
		}
	}
	return alive, all
}

// sync makes the pods as many as they should be and publishes the status.
func (k *workload) sync(name string) {
	rs, _ := k.w.replicaSets.live.get(name)
	if rs == nil {
		return
	}
	alive, _ := k.podsOf(rs.hash)
	for range int(rs.replicas) - len(alive) {
		k.create(rs.hash)
	}
	if excess := len(alive) - int(rs.replicas); excess > 0 {
		k.rank(alive)
		for _, victim := range alive[:excess] {
			k.terminate(victim, "ReplicaSet "+name+" is scaled down")
		}
	}
	k.publish(name)
}

// rank orders pods as the ReplicaSet controller deletes them (kubernetes pkg/controller, ActivePodsWithRanks).
func (k *workload) rank(names []string) {
	of := func(name string) *pod { p, _ := k.w.pods.live.get(name); return p }
	slices.SortStableFunc(names, func(x, y string) int {
		a, b := of(x), of(y)
		return cmp.Or(later(a.scheduled, b.scheduled), later(a.running, b.running), later(a.ready, b.ready),
			later(a.drain == "", b.drain == ""), // the mark carries the deletion cost
			b.readySince.Compare(a.readySince), b.created.Compare(a.created), cmp.Compare(x, y))
	})
}

// later orders those first that do not have it.
func later(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (k *workload) publish(name string) {
	rs, _ := k.w.replicaSets.live.get(name)
	next := *rs
	next.current, next.ready, next.available, next.observed = 0, 0, 0, rs.generation
	alive, _ := k.podsOf(rs.hash)
	for _, n := range alive {
		p, _ := k.w.pods.live.get(n)
		next.current++
		if !p.ready {
			continue
		}
		next.ready++
		since := k.w.now().Sub(p.readySince)
		if wait := time.Duration(rs.minReady)*time.Second - since; wait > 0 {
			k.w.after(wait, func() { k.poke(name) })
			continue
		}
		next.available++
	}
	if next != *rs {
		k.w.replicaSets.put(name, &next)
	}
}

func (k *workload) create(hash string) {
	k.made++
	name := fmt.Sprintf("%s-%d", hash, k.made)
	p := &pod{uid: fmt.Sprintf("uid-%s", name), hash: hash, created: k.w.now()}
	for _, service := range []string{canaryService, stableService} {
		if s, _ := k.w.services.live.get(service); k.w.config.Gates && s != nil && (s.hash == hash || s.hash == "") {
			p.gates = append(p.gates, gate{service: service})
		}
	}
	k.w.pods.put(name, p)
	k.w.note("pod %s is created", name)
	k.w.after(k.w.between(20*time.Millisecond, time.Second), func() { k.start(name) })
}

// start schedules a pod and lets its process come up.
func (k *workload) start(name string) {
	p, _ := k.w.pods.live.get(name)
	if p == nil || p.terminating {
		return
	}
	i := k.w.intn(min(4, len(k.free))) // an address that was freed lately comes again soon
	ip := k.free[i]
	k.free = slices.Delete(k.free, i, i+1)
	// What nodes still send to an address whose pod was lost is lost by that fault, whoever has it now.
	before := k.processes[ip]
	k.processes[ip] = &process{pod: name, uid: p.uid, hash: p.hash, ip: ip, faulty: before != nil && before.faulty}
	k.w.pods.change(name, func(p *pod) { p.ip, p.scheduled = ip, true })
	k.w.after(k.w.between(k.w.config.StartMin, k.w.config.StartMax), func() { k.serve(name, ip, p.uid) })
}

// serve lets the process answer from now on, and the probes find out.
func (k *workload) serve(name, ip, uid string) {
	proc := k.processes[ip]
	p, _ := k.w.pods.live.get(name)
	if proc == nil || proc.uid != uid || p == nil || p.terminating {
		return
	}
	proc.serving, proc.faulty = true, false
	k.w.pods.change(name, func(p *pod) { p.running = true })
	k.w.aws.answering(ip)
	k.w.judge()
	k.w.after(k.w.between(10*time.Millisecond, 2*time.Second), func() { k.probe(name, ip, uid) })
}

// probe publishes what the readiness probe has found.
func (k *workload) probe(name, ip, uid string) {
	proc := k.processes[ip]
	if proc == nil || proc.uid != uid {
		return
	}
	k.w.pods.change(name, func(p *pod) { p.containersReady = proc.serving })
	k.readiness(name)
}

// readiness computes the Ready condition from the probes and the gates.
func (k *workload) readiness(name string) {
	p, _ := k.w.pods.live.get(name)
	if p == nil {
		return
	}
	ready := p.containersReady
	for _, g := range p.gates {
		ready = ready && g.Status == "True"
	}
	if ready == p.ready {
		return
	}
	k.w.pods.change(name, func(p *pod) {
		p.ready = ready
		p.readySince = time.Time{}
		if ready {
			p.readySince = k.w.now()
		}
	})
}

// terminate deletes a pod: SIGTERM at once, and in this world the process then stops at once, the worst that may happen.
func (k *workload) terminate(name, why string) {
	p, _ := k.w.pods.live.get(name)
	if p == nil || p.terminating {
		return
	}
	k.w.note("pod %s is told to stop: %s", name, why)
	k.w.laws.stopping(name, p)
	k.w.pods.change(name, func(p *pod) { p.terminating, p.ready, p.containersReady = true, false, false })
	if proc := k.processes[p.ip]; proc != nil && p.ip != "" {
		proc.serving = false
		k.w.aws.silent(p.ip)
		k.w.judge()
	}
	k.w.after(k.w.between(200*time.Millisecond, 8*time.Second), func() { k.end(name) })
}

// end removes the pod; its address is free again.
func (k *workload) end(name string) {
	p, _ := k.w.pods.live.get(name)
	if p == nil {
		return
	}
	if p.ip != "" {
		k.free = slices.Insert(k.free, 0, p.ip)
	}
	k.w.pods.put(name, nil)
	k.w.judge()
}

// lose stops a process without anybody having asked for it: its node has gone, or it crashed and comes again.
func (k *workload) lose(name string, comesBack bool) {
	p, _ := k.w.pods.live.get(name)
	if p == nil || p.terminating || p.ip == "" || !k.processes[p.ip].serving {
		return
	}
	proc := k.processes[p.ip]
	proc.serving, proc.faulty = false, true
	k.w.laws.faulted(p.hash)
	k.w.aws.silent(p.ip)
	k.w.judge()
	uid := p.uid
	k.w.after(k.w.between(500*time.Millisecond, 10*time.Second), func() { k.probe(name, proc.ip, uid) })
	back := k.w.between(5*time.Second, 40*time.Second)
	if comesBack {
		k.w.after(back, func() { k.serve(name, proc.ip, uid) })
		return
	}
	k.w.after(back, func() {
		if p, _ := k.w.pods.live.get(name); p != nil && p.uid == uid && !p.terminating {
			k.w.pods.change(name, func(p *pod) { p.terminating, p.ready, p.containersReady = true, false, false })
			k.w.after(k.w.between(time.Second, 30*time.Second), func() { k.end(name) })
		}
	})
}
