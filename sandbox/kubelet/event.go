package kubelet

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
)

// A kubelet writes 50 events a second, 100 in a burst, and drops what it cannot write: thousands of
// pods starting at once must not keep the API server busy with telling so. Warnings have a queue of their own.
const (
	eventRate  = 50
	eventBurst = 100
	eventQueue = 1000
)

// recorder writes events, and counts up those that repeat.
type recorder struct {
	client             kubernetes.Interface
	limit              *rate.Limiter
	warnings, ordinary chan *corev1.Event
	ctx                context.Context
	cancel             context.CancelFunc
	done               sync.WaitGroup
	// seen is the events of the last while, by what they say. Only the writing goroutine uses it.
	seen map[eventKey]*corev1.Event
}

type eventKey struct {
	uid                        string
	reason, message, fieldPath string
}

func newRecorder(client kubernetes.Interface) *recorder {
	r := &recorder{
		client: client, limit: rate.NewLimiter(eventRate, eventBurst), seen: map[eventKey]*corev1.Event{},
		warnings: make(chan *corev1.Event, eventQueue), ordinary: make(chan *corev1.Event, eventQueue),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.done.Go(r.run)
	return r
}

func (r *recorder) shutDown() {
	r.cancel()
	r.done.Wait()
}

// record queues an event of a node's kubelet about a pod.
func (r *recorder) record(pod *corev1.Pod, node string, e lifecycle.Record) {
	r.add(pod, corev1.EventSource{Component: "kubelet", Host: node}, e)
}

func (r *recorder) add(pod *corev1.Pod, source corev1.EventSource, e lifecycle.Record) {
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", pod.Name, now.UnixNano()), Namespace: pod.Namespace},
		InvolvedObject: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		},
		Type: e.Type, Reason: e.Reason, Message: e.Message, Source: source, ReportingController: source.Component, ReportingInstance: source.Host,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	if e.Container != "" {
		event.InvolvedObject.FieldPath = "spec.containers{" + e.Container + "}"
	}
	queue := r.ordinary
	if e.Type == corev1.EventTypeWarning {
		queue = r.warnings
	}
	select {
	case queue <- event:
	default: // the API server is behind: events are the first to go
	}
}

func (r *recorder) run() {
	for {
		var event *corev1.Event
		select {
		case event = <-r.warnings:
		default:
			select {
			case event = <-r.warnings:
			case event = <-r.ordinary:
			case <-r.ctx.Done():
				return
			}
		}
		if r.limit.Wait(r.ctx) != nil {
			return
		}
		r.write(event)
	}
}

const seenAtMost = 4096

func (r *recorder) write(event *corev1.Event) {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	key := eventKey{string(event.InvolvedObject.UID), event.Reason, event.Message, event.InvolvedObject.FieldPath}
	events := r.client.CoreV1().Events(event.Namespace)
	if old := r.seen[key]; old != nil {
		again := old.DeepCopy()
		again.Count++
		again.LastTimestamp = event.LastTimestamp
		if again, err := events.Update(ctx, again, metav1.UpdateOptions{}); err == nil {
			r.seen[key] = again
			return
		}
	}
	if len(r.seen) >= seenAtMost {
		clear(r.seen)
	}
	if written, err := events.Create(ctx, event, metav1.CreateOptions{}); err == nil {
		r.seen[key] = written
	}
}
