package dataplane

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowStart: a target that becomes healthy beside others gets a share that grows evenly; the first ones get all of theirs at once.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{config: Config{Seed: 1}}
		g := newGroup(n, "g")
		settings := Group{ARN: "g", SlowStart: 100 * time.Second, MinimumHealthy: 1, Algorithm: RoundRobin}
		g.settings = &settings
		join := func(id string) *target {
			one := &target{group: g, key: TargetKey{ID: id}, health: initialHealth()}
			g.order = append(g.order, one)
			return one
		}
		pass := func(one *target) { one.checked(one.round, probeResult{}) }
		share := func(of *target) float64 {
			const draws = 20_000
			hits := 0
			for range draws {
				if g.choose(g.pool.Load(), time.Now()) == of {
					hits++
				}
			}
			return float64(hits) / draws
		}
		near := func(what string, got, want float64) {
			t.Helper()
			if got < want-0.02 || got > want+0.02 {
				t.Errorf("%s: share %.3f, want %.3f", what, got, want)
			}
		}
		a, b := join("a"), join("b")
		pass(a)
		near("the first one is not ramped", share(a), 1)
		pass(b)
		time.Sleep(50 * time.Second)
		near("half of the time is over", share(b), 0.5/1.5)
		b.health = health{TargetHealth: TargetHealth{State: Unhealthy}} // leaves slow start, and enters it anew
		time.Sleep(50 * time.Second)
		b.health.passes = 9
		pass(b)
		time.Sleep(10 * time.Second)
		near("it begins anew", share(b), 0.1/1.1)
		time.Sleep(90 * time.Second)
		near("the time is over", share(b), 0.5)
	})
}

// TestAppCookie: once the target has set its cookie, a client that sends it and the one of the node stays with the target.
func TestAppCookie(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	for _, one := range []*app{a, b} {
		name := one.Address.String()
		one.on(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				http.SetCookie(rw, &http.Cookie{Name: "session", Value: "s"})
			}
			_, _ = rw.Write([]byte(name))
		})
	}
	group := quick("g")
	group.AppCookie = AppCookie{"session", time.Hour}
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target, b.Target}})
	w.awaitState(a.Target, Healthy)
	w.awaitState(b.Target, Healthy)
	w.forwarding(only("g"))

	if _, header, _ := w.get("/"); len(header["Set-Cookie"]) > 0 {
		t.Errorf("a cookie before the application has set its own: %v", header)
	}
	_, header, home := w.get("/login")
	cookies := (&http.Response{Header: header}).Cookies()
	if len(cookies) != 2 || cookies[1].Name != "AWSALBAPP-0" {
		t.Fatalf("got %v", cookies)
	}
	seen := map[string]int{}
	for range 6 {
		if _, _, body := w.get("/", func(r *http.Request) { r.AddCookie(cookies[0]); r.AddCookie(cookies[1]) }); body != home {
			t.Errorf("with both cookies: %s, not %s", body, home)
		}
		_, _, body := w.get("/", func(r *http.Request) { r.AddCookie(cookies[1]) })
		seen[body]++
	}
	if len(seen) != 2 {
		t.Errorf("without the application's cookie: %v", seen)
	}
}
