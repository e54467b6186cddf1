package dataplane

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// draws counts which group an action chooses, without network.
func draws(t *testing.T, seed uint64, n int, groups ...WeightedGroup) map[string]int {
	t.Helper()
	node := NewNode(Config{Seed: seed})
	defer node.Close()
	a, err := compileAction(Action{Forward: &Forward{Groups: groups}}, node.group)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for range n {
		count[a.forward.pick(&exchange{node: node}).arn]++
	}
	return count
}

func TestWeightsAreKept(t *testing.T) {
	const n = 100_000
	for _, weights := range [][]int{{50, 50}, {1, 99}, {0, 1}, {999, 1}, {5, 0, 15, 80}, {33, 33, 34}} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			var groups []WeightedGroup
			sum := 0
			for i, w := range weights {
				groups = append(groups, WeightedGroup{fmt.Sprint(i), w})
				sum += w
			}
			for i, w := range weights {
				share := float64(w) / float64(sum)
				got, want := draws(t, 42, n, groups...)[fmt.Sprint(i)], share*n
				// Four standard deviations of a binomial; none at all for the shares 0 and 1.
				if off, allowed := math.Abs(float64(got)-want), 4*math.Sqrt(n*share*(1-share)); off > allowed {
					t.Errorf("group %d with weight %d got %d of %d, want %.0f ± %.0f", i, w, got, n, want, allowed)
				}
			}
		})
	}
}

func TestDrawsRepeatWithTheSeed(t *testing.T) {
	groups := []WeightedGroup{{"a", 3}, {"b", 7}}
	if one, two := fmt.Sprint(draws(t, 7, 1000, groups...)), fmt.Sprint(draws(t, 7, 1000, groups...)); one != two {
		t.Fatalf("%s, then %s", one, two)
	}
	if one, two := fmt.Sprint(draws(t, 7, 1000, groups...)), fmt.Sprint(draws(t, 8, 1000, groups...)); one == two {
		t.Fatalf("another seed draws the same: %s", one)
	}
}

// TestApplyUnderLoad changes everything at once, many times: each configuration pairs a group with its own fixed
// response, and no request fails or sees two versions mixed.
func TestApplyUnderLoad(t *testing.T) {
	w := newWorld(t)
	apps := []*app{w.serve("0"), w.serve("1")}
	for i, a := range apps {
		w.healthyGroup(fmt.Sprint("g", i), a.Target)
	}
	version := uint64(0)
	change := func() {
		version++
		i := version % 2
		w.apply(NodeConfig{Version: version, Listeners: []Listener{{Port: 8080, Protocol: HTTP,
			// Both conditions belong to the same version: the header of one version never meets the group of the other.
			Rules: []Rule{
				{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/mine"}}}, Action: Action{Forward: &Forward{Groups: []WeightedGroup{{fmt.Sprint("g", i), 100}, {fmt.Sprint("g", 1-i), 0}}}}},
			},
			Default: Action{Fixed: &FixedResponse{Status: 200, Body: fmt.Sprint(i)}},
		}}})
	}
	change()
	stop := make(chan struct{})
	var sent atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := w.client.Get(w.url("/mine"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("got %d", res.StatusCode)
				}
				sent.Add(1)
			}
		})
	}
	for sent.Load() < 2000 && !t.Failed() {
		change()
		if i := version % 2; true {
			w.wantMine("/mine", fmt.Sprint(i)) // once Apply has returned, the new version is served
			w.wantMine("/else", fmt.Sprint(i))
		}
	}
	close(stop)
	all.Wait()
	if version < 50 {
		t.Fatalf("only %d versions", version)
	}
}

func (w *world) wantMine(path, want string) {
	w.Helper()
	if status, _, body := w.get(path); status != 200 || body != want {
		w.Errorf("%s: got %d %q, want %q", path, status, body, want)
	}
}

// TestTargetsComeAndGoUnderLoad replaces the targets of a group one by one, always with one healthy: no request fails, and
// none arrives at a target after the node was told that it drains.
func TestTargetsComeAndGoUnderLoad(t *testing.T) {
	w := newWorld(t)
	current := w.serve("a")
	w.healthyGroup("g", current.Target)
	w.forwarding(only("g"))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := w.client.Get(w.url("/"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("got %d", res.StatusCode)
				}
			}
		})
	}
	for i := range 8 {
		next := w.serve(fmt.Sprint(i))
		w.node.ApplyTargets("g", TargetSet{Targets: []Target{current.Target, next.Target}})
		w.awaitState(next.Target, Healthy)
		w.drain(current.Target, next.Target)
		told := time.Now()
		usage := func() TargetUsage {
			for _, s := range w.node.Stats().Targets {
				if s.Target == current.Key() {
					return s.Usage
				}
			}
			return TargetUsage{}
		}
		w.eventually("the requests in flight have ended", func() bool { return usage().InFlight == 0 })
		if last := usage().LastRequest; last.After(told) {
			t.Fatalf("a request at %v, told to drain at %v", last, told)
		}
		_ = current.server.Close() // and it can go without anybody noticing
		current = next
	}
	close(stop)
	all.Wait()
}

func TestGroupStickiness(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.healthyGroup("a", a.Target)
	w.healthyGroup("b", b.Target)
	forward := func(lasts time.Duration, groups ...WeightedGroup) {
		w.apply(NodeConfig{Listeners: []Listener{{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: groups, Stickiness: lasts}}}}})
	}
	forward(time.Hour, WeightedGroup{"a", 0}, WeightedGroup{"b", 1})
	_, header, body := w.get("/")
	cookies := header.Values("Set-Cookie")
	if body != "b" || len(cookies) != 2 || !strings.HasPrefix(cookies[0], "AWSALBTG=") || !strings.HasPrefix(cookies[1], "AWSALBTGCORS=") || !strings.Contains(cookies[1], "SameSite=None; Secure") {
		t.Fatalf("got %q with %q", body, cookies)
	}
	value, _, _ := strings.Cut(cookies[0], ";")
	carrying := func(cookie string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Cookie", cookie) }
	}
	forward(time.Hour, WeightedGroup{"a", 1}, WeightedGroup{"b", 0})
	for range 20 { // also at weight 0
		if _, _, body := w.get("/", carrying(value)); body != "b" {
			t.Fatalf("the client with the cookie got %q", body)
		}
		if _, _, body := w.get("/"); body != "a" {
			t.Fatalf("the client without cookie got %q", body)
		}
	}
	if _, _, body := w.get("/", carrying("x=y; "+strings.Replace(value, "AWSALBTG", "AWSALBTGCORS", 1))); body != "b" {
		t.Fatalf("the cookie of cross-origin requests got %q", body)
	}
	if _, _, body := w.get("/", carrying(value[:len(value)-2]+"zz")); body != "a" {
		t.Fatalf("a forged cookie got %q", body)
	}

	w.node.ApplyTargets("b", TargetSet{})
	if status, header, _ := w.get("/", carrying(value)); status != 503 || len(header.Values("Set-Cookie")) != 0 {
		t.Fatalf("sticky to an empty group: got %d", status)
	}
	if s := w.node.Stats().Groups["b"]; s.Requests != 23 || s.Generated[503] != 1 {
		t.Fatalf("counted %+v", s)
	}
	forward(time.Hour, WeightedGroup{"a", 1}) // the group has left the action: the cookie is ignored
	if _, _, body := w.get("/", carrying(value)); body != "a" {
		t.Fatalf("got %q", body)
	}
	forward(0, WeightedGroup{"a", 1}, WeightedGroup{"b", 0})
	if _, header, _ := w.get("/", carrying(value)); len(header.Values("Set-Cookie")) != 0 {
		t.Fatal("a cookie, and stickiness is off")
	}
}

func TestGroupStickinessEnds(t *testing.T) {
	key := newCookieKey("lb")
	now := time.Now()
	r, _ := http.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: groupCookie, Value: key.seal(groupCookie, now.Add(time.Minute), "g")})
	if got := key.open(r, groupCookies, now.Add(59*time.Second)); len(got) != 1 || got[0] != "g" {
		t.Fatalf("before its end: %q", got)
	}
	if got := key.open(r, groupCookies, now.Add(time.Minute)); got != nil {
		t.Fatalf("after its end: %q", got)
	}
	if got := newCookieKey("other").open(r, groupCookies, now); got != nil {
		t.Fatalf("by another load balancer: %q", got)
	}
	if got := key.open(r, targetCookies, now); got != nil {
		t.Fatalf("as the other kind of cookie: %q", got)
	}
}

func TestTargetStickiness(t *testing.T) {
	w := newWorld(t)
	apps := map[string]*app{}
	var targets []Target
	for _, name := range []string{"a", "b", "c"} {
		apps[name] = w.serve(name)
		targets = append(targets, apps[name].Target)
	}
	group := quick("g")
	group.Stickiness = time.Hour
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: targets})
	for _, target := range targets {
		w.awaitState(target, Healthy)
	}
	w.forwarding(only("g"))
	_, header, first := w.get("/")
	cookie, _, _ := strings.Cut(header.Values("Set-Cookie")[0], ";")
	if !strings.HasPrefix(cookie, "AWSALB=") {
		t.Fatalf("cookie %q", cookie)
	}
	carrying := func(r *http.Request) { r.Header.Set("Cookie", cookie) }
	for range 10 {
		if _, _, body := w.get("/", carrying); body != first {
			t.Fatalf("got %q, sticky to %q", body, first)
		}
	}
	apps[first].healthy.Store(500)
	w.awaitState(apps[first].Target, Unhealthy)
	_, header, second := w.get("/", carrying)
	if second == first {
		t.Fatal("still at the unhealthy target")
	}
	cookie, _, _ = strings.Cut(header.Values("Set-Cookie")[0], ";")
	for range 10 {
		if _, _, body := w.get("/", carrying); body != second {
			t.Fatalf("got %q, now sticky to %q", body, second)
		}
	}
}

func TestRoundRobinIsEven(t *testing.T) {
	w := newWorld(t)
	var targets []Target
	for _, name := range []string{"a", "b", "c"} {
		targets = append(targets, w.serve(name).Target)
	}
	w.healthyGroup("g", targets...)
	w.forwarding(only("g"))
	count := map[string]int{}
	for range 30 {
		_, _, body := w.get("/")
		count[body]++
	}
	if count["a"] != 10 || count["b"] != 10 || count["c"] != 10 {
		t.Fatalf("got %v", count)
	}
}

func TestLeastOutstandingAvoidsTheBusyOne(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	group := quick("g")
	group.Algorithm = LeastOutstanding
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target, b.Target}})
	w.awaitState(a.Target, Healthy)
	w.awaitState(b.Target, Healthy)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	late := make(chan answer, 1)
	for held := false; !held; { // one of the first two requests meets a
		got := w.async("/")
		select {
		case <-arrived:
			held = true
			go func() { late <- <-got }()
		case <-got:
		}
	}
	for range 10 {
		w.wantTarget("b")
	}
	letGo()
	if g := <-late; g.status != 200 {
		t.Fatalf("got %v", g)
	}
}

// TestClientThatDoesNotRead: it is given up after the idle timeout, as one that does not write is, so that it does not keep a target busy for ever.
func TestClientThatDoesNotRead(t *testing.T) {
	w := newWorld(t)
	endless := func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			return
		case "/length":
			rw.Header().Set("Content-Length", "1000000000")
		}
		for piece := make([]byte, 64<<10); ; {
			if _, err := rw.Write(piece); err != nil {
				return
			}
		}
	}
	givenUp := func(what string, target TargetKey, requests uint64) {
		t.Helper()
		w.eventually("it is given up: "+what, func() bool {
			for _, one := range w.node.Stats().Targets {
				if one.Target == target {
					return one.Usage.Requests == requests && one.Usage.InFlight == 0 && one.Usage.BrokenResponses == 0
				}
			}
			return false
		})
	}
	a := w.serve("a")
	a.on(endless)
	w.healthyGroup("g", a.Target)
	w.apply(NodeConfig{Attributes: Attributes{IdleTimeout: 200 * time.Millisecond}, Listeners: []Listener{
		{Port: 8080, Protocol: HTTP, Default: Action{Forward: &Forward{Groups: []WeightedGroup{only("g")}}}}}})
	for n, path := range []string{"/length", "/chunks"} {
		conn, err := net.Dial("tcp", w.at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		givenUp(path, a.Key(), uint64(n+1))
	}

	two := w.serveHTTP2(endless)
	group := quick("two")
	group.ProtocolVersion = HTTP2
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("two", TargetSet{Targets: []Target{two}})
	w.awaitState(two, Healthy)
	w.secured(Attributes{IdleTimeout: 200 * time.Millisecond}, only("two"))
	res, err := w.client.Get("https://" + w.at.String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	givenUp("over HTTP/2", two.Key(), 1)
}
