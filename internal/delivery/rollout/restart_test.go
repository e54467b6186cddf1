package rollout

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// The controller is ended and started again at random moments of a rollout with a third image in its
// middle. The cloud's own checks (no pod goes while AWS names it) judge every moment.
func TestControllerRestartsAtAnyMoment(t *testing.T) {
	const instance = "restart"
	s := newShop(t, func(s *shop) { s.instance = instance }, weight(50), pause())
	stop := make(chan struct{})
	ended := make(chan int)
	go func() { ended <- restart(t.Context(), instance, rand.New(rand.NewPCG(1, 2)), stop) }()
	s.phase(v1alpha1.PhaseHealthy)
	s.image("web:2")
	s.phase(v1alpha1.PhasePaused)
	s.image("web:3")
	s.until("the third image paused", func(r *v1alpha1.Rollout) bool {
		return r.Status.Phase == v1alpha1.PhasePaused && s.sets() == "map[web:1:4 web:2:0 web:3:2]"
	})
	s.promote()
	s.phase(v1alpha1.PhaseHealthy)
	s.untilSets("map[web:1:0 web:2:0 web:3:4]")
	close(stop)
	if n := <-ended; n < 3 {
		t.Errorf("only %d restarts: the test proves little", n)
	}
}

// restart runs the controller for random times, up to a second each, until it is told to stop.
func restart(ctx context.Context, instance string, random *rand.Rand, stop <-chan struct{}) (times int) {
	for {
		life, cancel := context.WithTimeout(ctx, time.Duration(100+random.IntN(900))*time.Millisecond)
		ended := startController(life, instance)
		select {
		case <-stop:
			cancel()
			<-ended
			return times
		case <-ended:
			cancel()
			times++
		}
	}
}
