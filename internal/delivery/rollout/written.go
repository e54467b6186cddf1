package rollout

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// errLag: a cache has not seen our own last write yet, so a decision would repeat it.
var errLag = errors.New("the cache is behind our own last write")

// longestLag is how long a write is waited for in a cache. An object that somebody deletes right after our
// write never appears there.
const longestLag = 5 * time.Second

// written remembers the versions of a Rollout's objects that we have written last. It only spares work:
// losing it in a restart is harmless, since every cache is filled anew then.
type written struct {
	now func() time.Time

	mu       sync.Mutex
	rollouts map[types.NamespacedName]map[types.UID]version
}

type version struct {
	number uint64
	at     time.Time
}

// note remembers the version that the API server gave an object of a Rollout.
func (w *written) note(rollout types.NamespacedName, o client.Object) {
	w.expect(rollout, o, 0)
}

// outdated remembers that the API server has a newer object: it refused a write for that. What was decided on the
// old one would only be decided again, and its other operations repeated.
func (w *written) outdated(rollout types.NamespacedName, o client.Object) {
	w.expect(rollout, o, 1)
}

// expect has the cache show a version that is so many newer than the object's.
func (w *written) expect(rollout types.NamespacedName, o client.Object, newer uint64) {
	number, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rollouts == nil {
		w.rollouts = map[types.NamespacedName]map[types.UID]version{}
	}
	if w.rollouts[rollout] == nil {
		w.rollouts[rollout] = map[types.UID]version{}
	}
	w.rollouts[rollout][o.GetUID()] = version{number + newer, w.now()}
}

// lag reports whether an object is older than our last write of it, or one that was refused.
func (w *written) lag(rollout types.NamespacedName, o client.Object) bool {
	held, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.rollouts[rollout][o.GetUID()]
	if !ok || err != nil {
		return false
	}
	if held >= v.number || w.now().Sub(v.at) > longestLag {
		delete(w.rollouts[rollout], o.GetUID())
		return false
	}
	return true
}

func (w *written) forget(rollout types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.rollouts, rollout)
}
