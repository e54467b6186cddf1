package app

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBehaviourFromManifest(t *testing.T) {
	image := Behaviour{App: "echo", OnSIGTERM: Graceful}
	for _, c := range []struct {
		name        string
		annotations map[string]string
		env         []EnvVar
		want        func(*Behaviour)
		err         string // a part of the error; empty means none
	}{
		{name: "nothing", want: func(*Behaviour) {}},
		{name: "others' settings are not ours", annotations: map[string]string{"example.com/latency": "x"}, env: []EnvVar{{"LATENCY", "x"}}, want: func(*Behaviour) {}},
		{
			name:        "annotations",
			annotations: map[string]string{"sandbox.lockstep.dev/startup-delay": "3s", "sandbox.lockstep.dev/error-rate": "5%", "sandbox.lockstep.dev/capacity": "8"},
			want:        func(b *Behaviour) { b.StartupDelay, b.ErrorRate, b.Capacity = 3*time.Second, 0.05, 8 },
		},
		{
			name:        "the environment goes first",
			annotations: map[string]string{"sandbox.lockstep.dev/on-sigterm": "ignore"},
			env:         []EnvVar{{"SANDBOX_ON_SIGTERM", "abrupt"}, {"SANDBOX_RUN_FOR", "2s"}, {"SANDBOX_EXIT_CODE", "3"}},
			want: func(b *Behaviour) {
				b.OnSIGTERM, b.RunFor, b.ExitCode = Abrupt, new(2*time.Second), 3
			},
		},
		{name: "unknown parameter", annotations: map[string]string{"sandbox.lockstep.dev/speed": "1"}, err: `annotation sandbox.lockstep.dev/speed: there is no parameter "speed": use one of app, capacity,`},
		{name: "negative duration", env: []EnvVar{{"SANDBOX_LATENCY", "-1s"}}, err: `environment variable SANDBOX_LATENCY: "-1s" is not a duration`},
		{name: "share above one", env: []EnvVar{{"SANDBOX_ERROR_RATE", "120%"}}, err: `"120%" is not a share`},
		{name: "share that is no number", env: []EnvVar{{"SANDBOX_ERROR_RATE", "NaN"}}, err: `is not a share`},
		{name: "exit code", env: []EnvVar{{"SANDBOX_EXIT_CODE", "256"}}, err: `not a number from 0 to 255`},
		{name: "manners", env: []EnvVar{{"SANDBOX_ON_SIGTERM", "politely"}}, err: `"politely" is not one of [graceful abrupt ignore]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := image.With(c.annotations, c.env)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			want := image
			c.want(&want)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("error %v, difference %s", err, diff)
			}
		})
	}
}

func TestScaledTouchesOnlySimulatedDelays(t *testing.T) {
	b := Behaviour{StartupDelay: 10 * time.Second, ReadyDelay: 4 * time.Second, RunFor: new(2 * time.Second), DrainDelay: 3 * time.Second, Latency: Latency{Low: time.Second}}
	want := b
	want.StartupDelay, want.ReadyDelay, want.RunFor = time.Second, 400*time.Millisecond, new(200*time.Millisecond)
	if diff := cmp.Diff(want, b.Scaled(0.1)); diff != "" {
		t.Error(diff)
	}
}

func TestLatency(t *testing.T) {
	for _, c := range []struct {
		text          string
		low, mid, p99 time.Duration
	}{
		{"20ms", 20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond},
		{"10ms..30ms", 10 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond},
		{"p50=20ms,p99=300ms", 0, 20 * time.Millisecond, 300 * time.Millisecond},
	} {
		l, err := ParseLatency(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		near := func(got, want time.Duration) bool { return math.Abs(float64(got-want)) <= 0.02*float64(want) }
		if c.low > 0 && !near(l.At(0), c.low) || !near(l.At(0.5), c.mid) || !near(l.At(0.99), c.p99) {
			t.Errorf("%s: at 0, 0.5, 0.99: %s, %s, %s", c.text, l.At(0), l.At(0.5), l.At(0.99))
		}
	}
	for _, wrong := range []string{"", "fast", "30ms..10ms", "p50=20ms", "p50=0s,p99=1s", "..", "1s..", "p50=,p99="} {
		if l, err := ParseLatency(wrong); err == nil {
			t.Errorf("%q was read as %+v", wrong, l)
		}
	}
}

func FuzzBehaviour(f *testing.F) {
	f.Add("latency", "p50=20ms,p99=300ms")
	f.Add("error-rate", "5%")
	f.Fuzz(func(t *testing.T, name, value string) {
		b, err := Behaviour{}.With(map[string]string{AnnotationPrefix + name: value}, nil)
		if err != nil {
			return
		}
		for _, u := range []float64{0, 0.3, 1} {
			if d := b.Latency.At(u); d < 0 {
				t.Fatalf("%s=%q: latency at %v is %s", name, value, u, d)
			}
		}
		if b.ErrorRate < 0 || b.ErrorRate > 1 || b.Capacity < 0 {
			t.Fatalf("%s=%q gives %+v", name, value, b)
		}
	})
}

func TestCatalogue(t *testing.T) {
	c := Catalogue{More: map[string]string{"example.com/shop/cart": "echo"}}
	for _, x := range []struct{ image, app, version, err string }{
		{"lockstep.dev/echo:v1", "echo", "v1", ""},
		{"lockstep.dev/echo", "echo", "latest", ""},
		{"lockstep.dev/echo:v2@sha256:0123", "echo", "v2", ""},
		{"argoproj/rollouts-demo:blue", "color", "blue", ""},
		{"docker.io/argoproj/rollouts-demo:bad-red", "color", "bad-red", ""},
		{"argoproj/rollouts-demo:pink", "", "", "not found"},
		{"example.com:5000/shop/cart:v1", "", "", "not found"},
		{"example.com/shop/cart:v1", "echo", "v1", ""},
		{"busybox:1", "pause", "1", ""},
	} {
		got, err := c.Find(x.image, nil, nil)
		if x.err != "" {
			if err == nil || !strings.Contains(err.Error(), x.err) || !strings.Contains(err.Error(), x.image) {
				t.Errorf("%s: error %v", x.image, err)
			}
			continue
		}
		if err != nil || got.Behaviour.App != x.app || got.Version != x.version {
			t.Errorf("%s: %+v, %v", x.image, got, err)
		}
	}
	if got, err := c.Find("example.com/own:v7", map[string]string{AnnotationPrefix + "app": "color"}, nil); err != nil || got.Behaviour.App != "color" || got.Version != "v7" {
		t.Errorf("an image that the manifest says what to run for: %+v, %v", got, err)
	}
	if got, _ := c.Find("argoproj/rollouts-demo:bad-red", nil, nil); got.Behaviour.ErrorRate != 0.15 {
		t.Errorf("bad-red: %+v", got)
	}
}
