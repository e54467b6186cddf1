package app

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Names by which manifests set the parameters of the package comment.
const (
	AnnotationPrefix = "sandbox.lockstep.dev/"
	EnvPrefix        = "SANDBOX_"
)

// Behaviour is how an application behaves; the table in the package comment says what each means.
type Behaviour struct {
	App            string
	StartupDelay   time.Duration
	ReadyDelay     time.Duration
	Latency        Latency
	ErrorRate      float64
	Capacity       int
	CrashAfter     time.Duration
	UnhealthyAfter time.Duration
	RunFor         *time.Duration
	ExitCode       int32
	OnSIGTERM      OnSIGTERM
	DrainDelay     time.Duration
	IdleTimeout    time.Duration
	// CPU is the processor time that one answer takes; Memory is in bytes.
	CPU    time.Duration
	Memory int64
}

// Command is the application that is none: the container's command, run as a process of this machine.
const Command = "command"

// OnSIGTERM is what an application does when it is told to stop.
type OnSIGTERM string

// The three kinds of manners.
const (
	Graceful OnSIGTERM = "graceful"
	Abrupt   OnSIGTERM = "abrupt"
	Ignore   OnSIGTERM = "ignore"
)

// parameters maps each name to how its value is read.
var parameters = map[string]func(*Behaviour, string) error{
	"app":             func(b *Behaviour, v string) error { return oneOf(&b.App, v, "echo", "color", "pause", Command) },
	"startup-delay":   func(b *Behaviour, v string) error { return duration(&b.StartupDelay, v) },
	"ready-delay":     func(b *Behaviour, v string) error { return duration(&b.ReadyDelay, v) },
	"latency":         func(b *Behaviour, v string) (err error) { b.Latency, err = ParseLatency(v); return err },
	"error-rate":      func(b *Behaviour, v string) error { return share(&b.ErrorRate, v) },
	"capacity":        func(b *Behaviour, v string) error { return count(&b.Capacity, v, math.MaxInt32) },
	"crash-after":     func(b *Behaviour, v string) error { return duration(&b.CrashAfter, v) },
	"unhealthy-after": func(b *Behaviour, v string) error { return duration(&b.UnhealthyAfter, v) },
	"run-for":         func(b *Behaviour, v string) error { b.RunFor = new(time.Duration); return duration(b.RunFor, v) },
	"exit-code":       func(b *Behaviour, v string) error { return count(&b.ExitCode, v, 255) },
	"on-sigterm": func(b *Behaviour, v string) error {
		return oneOf(&b.OnSIGTERM, v, Graceful, Abrupt, Ignore)
	},
	"drain-delay":  func(b *Behaviour, v string) error { return duration(&b.DrainDelay, v) },
	"idle-timeout": func(b *Behaviour, v string) error { return duration(&b.IdleTimeout, v) },
	"cpu":          func(b *Behaviour, v string) error { return duration(&b.CPU, v) },
	"memory":       func(b *Behaviour, v string) error { return bytes(&b.Memory, v) },
}

// With returns the behaviour as changed by a pod's annotations and one container's environment. The
// error names the first parameter, in that order, that is unknown or has a value that makes no sense.
func (b Behaviour) With(annotations map[string]string, env []EnvVar) (Behaviour, error) {
	for _, key := range sortedKeys(annotations) {
		name, ours := strings.CutPrefix(key, AnnotationPrefix)
		if !ours {
			continue
		}
		if err := b.set(name, annotations[key]); err != nil {
			return b, fmt.Errorf("annotation %s: %w", key, err)
		}
	}
	for _, e := range env {
		name, ours := strings.CutPrefix(e.Name, EnvPrefix)
		if !ours {
			continue
		}
		if err := b.set(strings.ReplaceAll(strings.ToLower(name), "_", "-"), e.Value); err != nil {
			return b, fmt.Errorf("environment variable %s: %w", e.Name, err)
		}
	}
	return b, nil
}

// EnvVar is one environment variable of a container.
type EnvVar struct{ Name, Value string }

func (b *Behaviour) set(name, value string) error {
	read, known := parameters[name]
	if !known {
		return fmt.Errorf("there is no parameter %q: use one of %s", name, strings.Join(sortedKeys(parameters), ", "))
	}
	return read(b, strings.TrimSpace(value))
}

// Scaled returns the behaviour with the simulated delays, those that the table says so of, multiplied.
func (b Behaviour) Scaled(by float64) Behaviour {
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) * by) }
	b.StartupDelay, b.ReadyDelay = scale(b.StartupDelay), scale(b.ReadyDelay)
	if b.RunFor != nil {
		b.RunFor = new(scale(*b.RunFor))
	}
	return b
}

func duration(to *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration: write it as 250ms, 3s or 1m30s", v)
	}
	*to = d
	return nil
}

func bytes(to *int64, v string) error {
	q, err := resource.ParseQuantity(v)
	if err != nil || q.Sign() < 0 {
		return fmt.Errorf("%q is not an amount of memory: write it as 64Mi or 1Gi", v)
	}
	*to = q.Value()
	return nil
}

func share(to *float64, v string) error {
	number, percent := strings.CutSuffix(v, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		return fmt.Errorf("%q is not a share: write it as 0.05 or 5%%", v)
	}
	*to = f
	return nil
}

func count[T int | int32](to *T, v string, most T) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > int(most) {
		return fmt.Errorf("%q is not a number from 0 to %d", v, most)
	}
	*to = T(n)
	return nil
}

func oneOf[T ~string](to *T, v string, values ...T) error {
	for _, w := range values {
		if T(v) == w {
			*to = w
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %v", v, values)
}
