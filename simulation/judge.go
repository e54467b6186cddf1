package simulation

import "time"

// carries: the node gives the destination requests: by weight, or those of sticky clients.
func (n *node) carries(d destination) bool {
	return d.weight > 0 || n.sticky > 0 && !d.left.IsZero() && n.w.now().Sub(d.left) < n.sticky
}

// judge asks on every node what would become of a request now. It is called after every change that may
// matter to one: of a node's routes and targets, and of a process.
func (w *world) judge() {
	if !w.laws.on() || w.violation != nil {
		return
	}
	for _, n := range w.aws.nodes {
		total, serving := int32(0), 0
		for _, d := range n.routes {
			total += d.weight
			if d.weight > 0 {
				serving++
			}
			if n.carries(d) {
				if d.weight == 0 {
					w.reach("sticky clients at weight 0")
				}
				w.judgeGroup(n, d)
			}
		}
		if serving > 1 {
			w.reach("two versions serve")
		}
		if total == 0 {
			w.violate(3, "the node in %s has no group with a weight: every request is answered 503", n.zone)
		}
	}
}

// judgeGroup asks whether every target that may get a request answers it.
func (w *world) judgeGroup(n *node, d destination) {
	g := w.aws.group(d.arn)
	targets, _ := n.group(d.arn).eligible()
	if len(targets) == 0 {
		w.laws.broken(3, []excuse{w.laws.lost(10 * time.Minute), w.laws.stranded()}, "the node in %s sends to the group of %s (weight %d), which has no target that it may use: 503", n.zone, g.service, d.weight)
		return
	}
	for _, t := range targets {
		proc := w.workload.processes[t.ip]
		switch {
		case proc != nil && (proc.serving || proc.faulty):
		default:
			w.violate(2, "the node in %s sends to %s in the group of %s (weight %d), where nobody answers", n.zone, w.named(t.ip), g.service, d.weight)
		}
	}
}
