package rollout

import (
	"context"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// A CRD of another controller prunes what ours adds to the status: nothing would ever count as settled, so it
// must not go unnoticed.
func TestACRDThatDropsTheTrafficStatusIsAnError(t *testing.T) {
	for name, row := range map[string]struct {
		kept bool
		want string
	}{
		"pruned": {false, "apply the CRDs in deploy/crds"},
		"kept":   {true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := interceptor.NewClient(nil, interceptor.Funcs{SubResourcePatch: func(_ context.Context, _ client.Client, _ string, o client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
				r := o.(*v1alpha1.Rollout)
				r.ResourceVersion, r.Status = "2", v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseProgressing}
				if row.kept {
					r.Status.Traffic = []v1alpha1.TrafficStatus{{Group: "web"}}
				}
				return nil
			}})
			recorder := events.NewFakeRecorder(1)
			c := &Controller{cached: server, events: recorder, written: written{now: time.Now}}
			o := &observed{rollout: &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", ResourceVersion: "1"}}}
			err := c.publish(t.Context(), o, v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseProgressing, Traffic: []v1alpha1.TrafficStatus{{Group: "web"}}})
			if row.want == "" {
				if err != nil || o.rollout.ResourceVersion != "2" {
					t.Errorf("%v, version %s", err, o.rollout.ResourceVersion)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Fatal(err)
			}
			if got := <-recorder.Events; !strings.Contains(got, row.want) {
				t.Error(got)
			}
		})
	}
}

// Somebody has changed the Rollout, and the cache does not know it yet.
func TestARefusedStatusIsNotDecidedOnAgain(t *testing.T) {
	server := interceptor.NewClient(nil, interceptor.Funcs{SubResourcePatch: func(context.Context, client.Client, string, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "rollouts"}, "web", nil)
	}})
	c := &Controller{cached: server, written: written{now: time.Now}}
	o := &observed{rollout: &v1alpha1.Rollout{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u", ResourceVersion: "1"}}}
	if err := c.publish(t.Context(), o, v1alpha1.RolloutStatus{Phase: v1alpha1.PhaseProgressing}); !apierrors.IsConflict(err) {
		t.Fatal(err)
	}
	if !c.written.lag(client.ObjectKeyFromObject(o.rollout), o.rollout) {
		t.Error("the object that was refused is decided on again")
	}
}
