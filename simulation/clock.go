package simulation

import (
	"container/heap"
	"time"
)

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock is virtual time: a queue of things that will happen, of which the next one is always now. It counts
// in microseconds, since that is what Kubernetes stores.
type clock struct {
	micros int64
	serial int64
	queue  events
}

type event struct {
	at, serial int64
	run        func()
}

func (c *clock) now() time.Time { return epoch.Add(time.Duration(c.micros) * time.Microsecond) }

// after runs f when d has passed.
func (c *clock) after(d time.Duration, f func()) {
	c.serial++
	heap.Push(&c.queue, event{c.micros + max(0, d.Microseconds()), c.serial, f})
}

// at runs f at a time; a past one is now.
func (c *clock) at(t time.Time, f func()) { c.after(t.Sub(c.now())+time.Microsecond-1, f) }

// step goes to the next event and runs it; false when there is none until the end.
func (c *clock) step(end time.Time) bool {
	if len(c.queue) == 0 || c.queue[0].at > end.Sub(epoch).Microseconds() {
		c.micros = end.Sub(epoch).Microseconds()
		return false
	}
	e := heap.Pop(&c.queue).(event)
	c.micros = e.at
	e.run()
	return true
}

// events is a heap, the earliest first and in the order of their making.
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}
