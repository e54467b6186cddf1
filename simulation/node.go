package simulation

import (
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// node is the load balancer in one zone. It acts on what it has learned, which is not what the API says:
// every change reaches it at its own moment.
type node struct {
	w    *world
	zone string
	// change is the number of the newest rule change that it knows; an older one that comes later is skipped.
	change int
	routes []destination
	sticky time.Duration
	groups map[string]*known
}

// destination is a share of the node's requests.
type destination struct {
	arn    string
	weight int32
	// left is when the weight became 0: sticky clients go on coming for the duration of their cookie.
	left time.Time
}

// known is a target group as the node knows it.
type known struct {
	targets []*knownTarget
}

// fitness is what the node's health checks have found.
type fitness int

const (
	checking fitness = iota
	fit
	unfit
)

// knownTarget is a target that the node may send requests to.
type knownTarget struct {
	ip     string
	serial int
	gone   bool // deregistered
	state  fitness
	// check tells the newest series of checks apart from those before.
	check int
}

func newNode(w *world, zone string) *node {
	return &node{w: w, zone: zone, groups: map[string]*known{}}
}

// route takes a change of the rule.
func (n *node) route(change int, forward model.Forward) {
	if change < n.change {
		return
	}
	n.change, n.sticky = change, forward.Stickiness
	var routes []destination
	for _, t := range forward.TargetGroups {
		d := destination{arn: t.ARN, weight: t.Weight}
		for _, old := range n.routes {
			if old.arn == t.ARN && t.Weight == 0 {
				d.left = old.left
				if old.weight > 0 {
					d.left = n.w.now()
				}
			}
		}
		routes = append(routes, d)
	}
	n.routes = routes
	n.w.judge()
}

func (n *node) group(arn string) *known {
	if n.groups[arn] == nil {
		n.groups[arn] = &known{}
	}
	return n.groups[arn]
}

func (n *node) find(arn, ip string) *knownTarget {
	for _, t := range n.group(arn).targets {
		if t.ip == ip {
			return t
		}
	}
	return nil
}

// register takes a target, whose checks begin at once.
func (n *node) register(arn, ip string, serial int) {
	t := n.find(arn, ip)
	if t == nil {
		t = &knownTarget{ip: ip}
		g := n.group(arn)
		g.targets = append(g.targets, t)
	}
	if t.serial >= serial {
		return
	}
	t.serial, t.gone, t.state = serial, false, checking
	n.check(arn, t)
	n.w.judge()
}

// deregister stops new requests to a target.
func (n *node) deregister(arn, ip string, serial int) {
	t := n.find(arn, ip)
	if t == nil { // it never heard of it; a registration that comes later is older
		t = &knownTarget{ip: ip}
		g := n.group(arn)
		g.targets = append(g.targets, t)
	}
	if t.serial >= serial {
		return
	}
	t.serial, t.gone = serial, true
	t.check++
	n.w.judge()
}

// checks looks at all targets with an address whose process has begun or ceased to answer.
func (n *node) checks(ip string) {
	for _, g := range n.w.aws.groups {
		if t := n.find(g.arn, ip); t != nil && !t.gone {
			n.check(g.arn, t)
		}
	}
}

// check lets the state of a target follow what its process does, after as many checks as the group's thresholds want.
func (n *node) check(arn string, t *knownTarget) {
	t.check++
	check, serial, interval := t.check, t.serial, n.w.config.CheckInterval
	answers := func() bool {
		proc := n.w.workload.processes[t.ip]
		return proc != nil && proc.serving
	}
	wants, delay := fit, n.w.between(0, interval)
	switch {
	case answers() && t.state == checking:
		delay = n.w.between(0, interval) / 4
	case answers():
		delay += interval // healthy threshold 2
	default:
		wants, delay = unfit, delay+interval // unhealthy threshold 2
	}
	if t.state == wants {
		return
	}
	n.w.after(delay, func() {
		if t.check != check || t.gone || t.serial != serial {
			return
		}
		if answers() != (wants == fit) {
			return // a newer series follows
		}
		t.state = wants
		n.w.aws.agree(arn, t.ip, t.serial)
		n.w.judge()
	})
}

// eligible are the targets that get the requests of a group: the healthy ones; all when it fails open; none
// while all are in their first checks.
func (k *known) eligible() (targets []*knownTarget, failsOpen bool) {
	unfits := 0
	for _, t := range k.targets {
		switch {
		case t.gone:
		case t.state == fit:
			targets = append(targets, t)
		case t.state == unfit:
			unfits++
		}
	}
	if len(targets) > 0 || unfits == 0 {
		return targets, false
	}
	for _, t := range k.targets {
		if !t.gone {
			targets = append(targets, t)
		}
	}
	return targets, true
}
