package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// targetsPerCall is AWS's bound on targets of one RegisterTargets or DeregisterTargets.
const targetsPerCall = 200

// RegisterTargets registers targets, 200 with each call. When the budget ends within the list, the error is
// a *BusyError and the first calls have been made: registering again what is registered changes nothing.
func (c *Cloud) RegisterTargets(ctx context.Context, targetGroupARN string, targets []model.Target) error {
	return c.writeTargets(targetGroupARN, targets, func(part []model.Target) error {
		_, err := writeELB(ctx, c, budget.Targets, targetGroupARN, (*elb.Client).RegisterTargets,
			&elb.RegisterTargetsInput{TargetGroupArn: aws.String(targetGroupARN), Targets: toTargets(part)})
		return err
	})
}

// DeregisterTargets deregisters targets, 200 with each call; see RegisterTargets. Until the next read Stack counts
// them as draining.
func (c *Cloud) DeregisterTargets(ctx context.Context, targetGroupARN string, targets []model.Target) error {
	return c.writeTargets(targetGroupARN, targets, func(part []model.Target) error {
		c.leaving.add(targetGroupARN, part)
		_, err := writeELB(ctx, c, budget.Targets, targetGroupARN, (*elb.Client).DeregisterTargets,
			&elb.DeregisterTargetsInput{TargetGroupArn: aws.String(targetGroupARN), Targets: toTargets(part)})
		return err
	})
}

// writeTargets leaves what is believed to the next read: only AWS knows the state in which a target begins
// or ends.
func (c *Cloud) writeTargets(arn string, targets []model.Target, write func([]model.Target) error) error {
	for part := range slices.Chunk(targets, targetsPerCall) {
		c.have.targets.BeginWrite(arn)
		err := write(part)
		c.have.targets.EndWrite(arn, c.moment(), result(err), nil)
		if result(err) != mirror.Refused {
			c.poll.hurry(arn)
		}
		if result(err) == mirror.Unanswered { // it may still arrive, and undo what is written next
			c.leaseTargets(arn, c.lateWindow())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TargetHealth returns the targets of a group with their states, and when the read behind them began. It
// comes from the mirror if that read began at or after notBefore and after our last write to the group.
func (c *Cloud) TargetHealth(ctx context.Context, targetGroupARN string, notBefore time.Time) (health []model.TargetHealth, seenAt time.Time, err error) {
	if !c.have.targets.Fresh(targetGroupARN, notBefore) {
		if err := c.readTargets(ctx, budget.Targets, targetGroupARN, notBefore); err != nil {
			return nil, time.Time{}, err
		}
	}
	health, at, _ := c.have.targets.Seen(targetGroupARN)
	return slices.Clone(health), at.Time, nil
}

// readTargets reads a group's targets, or joins a read that began at or after notBefore.
func (c *Cloud) readTargets(ctx context.Context, lane budget.Lane, arn string, notBefore time.Time) error {
	return untilFresh(ctx, c.have.targets, arn, notBefore, func() error {
		return c.join(ctx, lane, "targets "+arn, notBefore, c.have.targets.WroteAt(arn), func(ctx context.Context) error {
			out, begun, err := readELB(ctx, c, lane, arn, (*elb.Client).DescribeTargetHealth, &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String(arn)})
			if errors.Is(err, ErrNotFound) && !c.young(c.have.targetGroups.WroteAt(arn)) && !c.young(c.have.targets.WroteAt(arn)) {
				c.forgetTargetGroup(arn)
			}
			if err != nil {
				return err
			}
			before := c.have.targets.Version(arn)
			c.have.targets.Read(arn, begun, c.now(), fromHealth(out.TargetHealthDescriptions))
			c.leaving.forget(arn, func() bool { return c.have.targets.Fresh(arn, time.Time{}) })
			if c.have.targets.Version(arn) != before {
				c.poll.changed(arn, c.now())
				c.notify(Change{StackID: c.stackOf(arn), TargetGroupARN: arn, Kind: ChangeTargets})
			}
			return nil
		})
	})
}

// departures are the targets by group whose deregistration was sent since the last read that knows of all our
// writes. A weight that somebody else wants must not be raised over them on the word of the read before.
type departures struct {
	mu   sync.Mutex
	list map[string]map[targetKey]bool
}

// targetKey is what AWS tells the targets of a group apart by; the zone is not always told back.
type targetKey struct {
	id   string
	port int32
}

// add notes targets; a write to the group must have begun.
func (d *departures) add(arn string, targets []model.Target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list == nil {
		d.list = map[string]map[targetKey]bool{}
	}
	if d.list[arn] == nil {
		d.list[arn] = map[targetKey]bool{}
	}
	for _, t := range targets {
		d.list[arn][targetKey{t.ID, t.Port}] = true
	}
}

// forget drops a group's targets if a read tells what has become of them.
func (d *departures) forget(arn string, told func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if told() {
		delete(d.list, arn)
	}
}

// believedHealth is what plans are made with: the last read, in which targets whose deregistration was sent
// since are draining. A call that AWS refused is put right by the next read.
func (c *Cloud) believedHealth(arn string) (health []model.TargetHealth, seenAt time.Time) {
	fresh := c.have.targets.Fresh(arn, time.Time{})
	health, at, seen := c.have.targets.Seen(arn)
	if !seen {
		return nil, time.Time{}
	}
	health = slices.Clone(health)
	if fresh {
		return health, at.Time
	}
	c.leaving.mu.Lock()
	defer c.leaving.mu.Unlock()
	for i, t := range health {
		if c.leaving.list[arn][targetKey{t.ID, t.Port}] {
			health[i].State = "draining"
		}
	}
	return health, at.Time
}

// HealthyTargets is how many targets of a group are believed to be healthy. It makes no call.
func (c *Cloud) HealthyTargets(targetGroupARN string) int {
	health, _ := c.believedHealth(targetGroupARN)
	n := 0
	for _, t := range health {
		if t.State == string(evidence.Healthy) {
			n++
		}
	}
	return n
}

// overlaps is how often a read is made again because a write of ours overlapped it.
const overlaps = 20

// untilFresh makes a read again while it proves worthless, since a write of ours was on its way meanwhile.
func untilFresh[T any](ctx context.Context, table *mirror.Table[T], key string, notBefore time.Time, read func() error) error {
	for range overlaps {
		if err := read(); err != nil || table.Fresh(key, notBefore) {
			return err
		}
		if !wait(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("cannot read %s: our own writes to it overlap each read: %w", key, ErrUnavailable)
}

// WatchTargets says whether somebody waits for the health of a group's targets. While somebody does, it is
// polled: often while it changes, seldom when it is steady; subscribers hear of each change. Saying the
// same twice changes nothing.
func (c *Cloud) WatchTargets(targetGroupARN string, interest bool) {
	c.poll.mu.Lock()
	defer c.poll.mu.Unlock()
	p := c.poll.of(targetGroupARN)
	p.wanted = interest
	c.startPoller(targetGroupARN, p)
}

// evidenceLease is how long a group whose evidence was asked for goes on being polled.
const evidenceLease = 2 * time.Minute

// leaseTargets watches a group for the length of the lease, at least.
func (c *Cloud) leaseTargets(arn string, lease time.Duration) {
	c.poll.mu.Lock()
	defer c.poll.mu.Unlock()
	p := c.poll.of(arn)
	if end := c.now().Add(lease); end.After(p.leased) {
		p.leased = end
	}
	c.startPoller(arn, p)
}

// pollers are the watched target groups.
type pollers struct {
	mu   sync.Mutex
	list map[string]*poller
}

type poller struct {
	wanted    bool
	leased    time.Time
	running   bool
	changedAt time.Time
	// moving says that some of the targets are between states.
	moving bool
	wake   chan struct{}
}

func (p *pollers) of(arn string) *poller {
	if p.list == nil {
		p.list = map[string]*poller{}
	}
	if p.list[arn] == nil {
		p.list[arn] = &poller{wake: make(chan struct{}, 1)}
	}
	return p.list[arn]
}

// changed notes that a group's targets are not what they were.
func (p *pollers) changed(arn string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if poller, ok := p.list[arn]; ok {
		poller.changedAt = now
	}
}

// hurry has a watched group read at once: its targets were written.
func (p *pollers) hurry(arn string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if poller, ok := p.list[arn]; ok {
		select {
		case poller.wake <- struct{}{}:
		default:
		}
	}
}

// startPoller runs the group's poller unless it runs. The pollers' lock must be held.
func (c *Cloud) startPoller(arn string, p *poller) {
	if p.running || !p.wanted && !c.now().Before(p.leased) {
		return
	}
	p.running = true
	c.inBackground(func(ctx context.Context) { c.pollTargets(withoutHurry(ctx), arn, p) })
}

func (c *Cloud) pollTargets(ctx context.Context, arn string, p *poller) {
	for {
		if _, at, seen := c.have.targets.Seen(arn); !seen || c.now().Sub(at.Time) >= c.settings.HealthFast || !c.have.targets.Fresh(arn, time.Time{}) {
			err := c.readTargets(ctx, budget.Targets, arn, c.now())
			if _, known := c.have.targetGroups.Believed(arn); errors.Is(err, ErrNotFound) && !known {
				c.stopPoller(arn)
				return
			}
			if err != nil && ctx.Err() == nil {
				c.log.Warn("cannot read the health of targets", "targetGroup", arn, "error", err)
			}
		}
		if !c.restPoller(ctx, arn, p, c.pollInterval(arn, p)) {
			return
		}
	}
}

// restPoller waits for the next turn, and reports false when the poller is not needed any more.
func (c *Cloud) restPoller(ctx context.Context, arn string, p *poller, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-p.wake:
	case <-timer.C:
	}
	c.poll.mu.Lock()
	defer c.poll.mu.Unlock()
	if p.wanted || c.now().Before(p.leased) {
		return true
	}
	p.running = false
	delete(c.poll.list, arn)
	return false
}

func (c *Cloud) stopPoller(arn string) {
	c.poll.mu.Lock()
	defer c.poll.mu.Unlock()
	delete(c.poll.list, arn)
}

// pollInterval is short while targets are between states, and grows to a tenth of the time since the last change:
// a deregistration delay of five minutes is not worth 300 reads.
func (c *Cloud) pollInterval(arn string, p *poller) time.Duration {
	health, _, seen := c.have.targets.Seen(arn)
	moving := !seen || slices.ContainsFunc(health, func(t model.TargetHealth) bool {
		return t.State == "initial" || t.State == "draining" || t.State == "unhealthy.draining"
	})
	c.poll.mu.Lock()
	defer c.poll.mu.Unlock()
	p.moving = moving
	quiet := c.now().Sub(p.changedAt)
	slow := max(c.settings.HealthSlow, time.Duration(len(c.poll.list))*pollShare)
	if !moving && quiet >= c.settings.HealthSlow {
		return slow
	}
	fast := max(c.settings.HealthFast, time.Duration(c.poll.movingGroups())*pollShare)
	return min(max(quiet/10, fast), slow)
}

// movingGroups is the number of watched groups with targets between states. The lock must be held.
func (p *pollers) movingGroups() int {
	n := 0
	for _, poller := range p.list {
		if poller.moving {
			n++
		}
	}
	return n
}

// pollShare is the least time between two polls of all moving groups together, and of all steady ones: each
// takes at most a third of the account's calls, so that polling never starves what is polled for.
const pollShare = 300 * time.Millisecond
