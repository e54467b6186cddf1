package profile_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

func load(t *testing.T, name string) *profile.Profile {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBuiltInProfilesAreComplete(t *testing.T) {
	t.Parallel()
	if want := []string{"ideal", "pessimistic", "typical"}; !slices.Equal(profile.Names(), want) {
		t.Errorf("built-in profiles %v, want %v", profile.Names(), want)
	}
	for _, name := range profile.Names() {
		if p := load(t, name); p.Name != name {
			t.Errorf("profile %s calls itself %s", name, p.Name)
		}
	}
	for key, d := range load(t, "ideal").Seconds {
		if d.String() != "F(0)" {
			t.Errorf("ideal has a delay: %s is %s", key, d)
		}
	}
	if got := load(t, "pessimistic").Seconds[profile.ALBRuleChange].String(); got != "L(12,75)" {
		t.Errorf("pessimistic rule change is %s", got)
	}
}

func TestBadProfilesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	whole, err := yaml.Marshal(load(t, "typical"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, new, says string }{
		"unknown key":         {"alb.register:", "alb.registre:", "alb.register"},
		"negative":            {"L(3,20)", "L(-3,20)", "L(-3,20)"},
		"not a distribution":  {"L(3,20)", "N(3,20)", "N(3,20)"},
		"median above p99":    {"L(3,20)", "L(30,20)", "L(30,20)"},
		"upside down":         {"U(90,180)", "U(190,180)", "U(190,180)"},
		"probability above 1": {"read.old_state: 0.02", "read.old_state: 2", "read.old_state"},
		"unknown field":       {"correlation:", "corelation:", "corelation"},
	} {
		text := strings.Replace(string(whole), tt.old, tt.new, 1)
		if text == string(whole) {
			t.Fatalf("%s: the profile does not contain %s", name, tt.old)
		}
		if _, err := profile.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDrawsRepeatFromTheirSeed(t *testing.T) {
	t.Parallel()
	values := func(seed uint64) (all []time.Duration) {
		d := profile.NewDraws(load(t, "typical"), seed, 1)
		for i := range 50 {
			event := fmt.Sprint("ModifyRule#", i)
			all = append(all, d.Once(profile.ProvisionALB, event), d.PerNode(profile.ALBRuleChange, event, "a"), d.PerNode(profile.ALBRuleChange, event, "b"))
		}
		return all
	}
	if !slices.Equal(values(7), values(7)) {
		t.Error("the same seed gives different draws")
	}
	if slices.Equal(values(7), values(8)) {
		t.Error("different seeds give the same draws")
	}
}

// The distributions are what their names say, and nodes are correlated as much as the profile says.
func TestDistributions(t *testing.T) {
	t.Parallel()
	d := profile.NewDraws(load(t, "typical"), 1, 1)
	const n = 20_000
	var once, a, b []float64
	for i := range n {
		event := fmt.Sprint("event/", i)
		once = append(once, d.Once(profile.ProvisionALB, event).Seconds())
		a = append(a, d.PerNode(profile.ALBRuleChange, event, "a").Seconds())
		b = append(b, d.PerNode(profile.ALBRuleChange, event, "b").Seconds())
	}
	correlation := pearson(logs(a), logs(b))
	slices.Sort(once)
	slices.Sort(a)
	for _, tt := range []struct {
		what           string
		got, low, high float64
	}{
		{"uniform minimum", once[0], 90, 90.5},
		{"uniform median", once[n/2], 133, 137},
		{"uniform maximum", once[n-1], 179.5, 180},
		{"log-normal median", a[n/2], 2.85, 3.15},
		{"log-normal 99th percentile", a[n*99/100], 18, 22},
		{"log-normal cut at twice the 99th percentile", a[n-1], 30, 40},
		{"correlation of two nodes", correlation, 0.46, 0.54},
	} {
		if tt.got < tt.low || tt.got > tt.high {
			t.Errorf("%s is %v, want %v to %v", tt.what, tt.got, tt.low, tt.high)
		}
	}
}

func TestScaleMultipliesDurations(t *testing.T) {
	t.Parallel()
	full := profile.NewDraws(load(t, "typical"), 1, 1).Once(profile.ProvisionALB, "x")
	tenth := profile.NewDraws(load(t, "typical"), 1, 0.1).Once(profile.ProvisionALB, "x")
	if got := full.Seconds() / tenth.Seconds(); math.Abs(got-10) > 0.001 {
		t.Errorf("a scale of 0.1 divides by %v", got)
	}
}

func logs(xs []float64) []float64 {
	out := make([]float64, len(xs))
	for i, x := range xs {
		out[i] = math.Log(x)
	}
	return out
}

func pearson(xs, ys []float64) float64 {
	n := float64(len(xs))
	var sx, sy, sxx, syy, sxy float64
	for i := range xs {
		sx, sy = sx+xs[i], sy+ys[i]
		sxx, syy, sxy = sxx+xs[i]*xs[i], syy+ys[i]*ys[i], sxy+xs[i]*ys[i]
	}
	return (n*sxy - sx*sy) / math.Sqrt((n*sxx-sx*sx)*(n*syy-sy*sy))
}

func TestAProfileOverABaseNeedsOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	p, err := profile.Parse([]byte("base: typical\ncorrelation: 0\nprobabilities: {read.old_state: 0.5}\nseconds: {alb.rule_change: F(30)}\n"))
	if err != nil {
		t.Fatal(err)
	}
	typical := load(t, "typical")
	if p.Name != "typical, changed" || p.Correlation != 0 || !p.MonotonicReads || p.Probabilities[profile.ReadOldState] != 0.5 ||
		p.Seconds[profile.ALBRuleChange].String() != "F(30)" || p.Seconds[profile.ALBRegister] != typical.Seconds[profile.ALBRegister] {
		t.Errorf("%+v", p)
	}
	text, err := p.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := profile.Parse([]byte(text)); err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("written and read again: %+v: %v", again, err)
	}
	if typical.Correlation == 0 {
		t.Error("the base has changed")
	}
	for says, text := range map[string]string{
		"alb.rule_chnage":                       "base: typical\nseconds: {alb.rule_chnage: F(30)}\n",
		"idael":                                 "base: idael\n",
		"is missing":                            "name: bare\n",
		"seconds: alb.rule_change: \"X(1)\"":    "base: typical\nseconds: {alb.rule_change: X(1)}\n",
		"seconds: alb.register: a distribution": "base: typical\nseconds: {alb.register: 5}\n",
		"not between":                           "base: ideal\ncorrelation: 3\n",
	} {
		if _, err := profile.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestAChangeOfProfileCountsForLaterDraws(t *testing.T) {
	t.Parallel()
	d := profile.NewDraws(load(t, "ideal"), 1, 1)
	if d.Once(profile.ProvisionALB, "x") != 0 {
		t.Error("ideal has a delay")
	}
	d.Set(load(t, "typical"), 0.5)
	want := profile.NewDraws(load(t, "typical"), 1, 0.5).Once(profile.ProvisionALB, "x")
	if got := d.Once(profile.ProvisionALB, "x"); got != want || d.Scale() != 0.5 || d.Profile().Name != "typical" {
		t.Errorf("%v, want %v", got, want)
	}
}

// A duration that does not fit into one is very long, and not none.
func TestHugeDelaysDoNotBecomeNone(t *testing.T) {
	t.Parallel()
	d := profile.NewDraws(load(t, "typical"), 1, 1e300)
	if got := d.Once(profile.ProvisionALB, "x"); got < 24*time.Hour || time.Now().Add(got).Before(time.Now()) {
		t.Errorf("%v", got)
	}
}
