//go:build !linux

package load

import "time"

// alarm is a timer of the Go runtime, which is up to a millisecond late.
type alarm struct{}

func newAlarm() (alarm, error) { return alarm{}, nil }

func (alarm) pause(d time.Duration) { time.Sleep(d) }

func (alarm) close() {}
