package app

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
)

const patience = 10 * time.Second

// running is a process under test.
type running struct {
	*Process
	at   netip.AddrPort
	exit chan string // "code message"
}

// start starts a process of its own address and kills it, and looks for what it leaves, at the end of the test.
func start(t testing.TB, b Behaviour) running {
	t.Helper()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	return startAt(t, b, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, vpc.Octet, 1, 1}), 8080))
}

func startAt(t testing.TB, b Behaviour, at netip.AddrPort) running {
	if b.App == "" {
		b.App = "echo"
	}
	if b.OnSIGTERM == "" {
		b.OnSIGTERM = Graceful
	}
	r := running{at: at, exit: make(chan string, 1)}
	r.Process = Start(Config{
		Identity: Identity{Pod: "web-1", Namespace: "shop", Version: "v1", Container: "web", Node: "n", Zone: "z"}, Behaviour: b,
		Listen: []netip.AddrPort{at}, Seed: 1,
		Exited: func(code int32, message string) { r.exit <- strings.TrimSpace(fmt.Sprint(code, " ", message)) },
	})
	t.Cleanup(r.Kill)
	return r
}

func (r running) awaitExit(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-r.exit:
		if !strings.HasPrefix(got, want) {
			t.Fatalf("it exited with %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("it has not exited; want %q", want)
	}
}

func (r running) url(path string) string { return "http://" + r.at.String() + path }

func get(t *testing.T, c *http.Client, url string) (int, string, error) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// once is a client that opens a connection for each request; keep keeps them open.
func once() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
}

func keep(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Timeout: patience, Transport: tr}
}

func TestEchoSaysWhatItGot(t *testing.T) {
	r := start(t, Behaviour{})
	req, _ := http.NewRequest(http.MethodPost, r.url(`/a%20b?q="1"`), nil)
	req.Host = "shop.example.com"
	req.Header["X-Odd"] = []string{`quote " and back\slash`, "ünïcode"}
	resp, err := once().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Pod, Namespace, Version, Method, Path, Host string
		Headers                                     map[string][]string
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatalf("the answer is no JSON: %v", err)
	}
	if got.Pod != "web-1" || got.Method != "POST" || got.Host != "shop.example.com" || got.Path != `/a%20b?q="1"` {
		t.Errorf("%+v", got)
	}
	if odd := got.Headers["X-Odd"]; len(odd) != 2 || odd[0] != `quote " and back\slash` || odd[1] != "ünïcode" {
		t.Errorf("headers %q", got.Headers)
	}
	if resp.Header.Get("X-App-Version") != "v1" || resp.Header.Get("X-Pod") != "web-1" {
		t.Errorf("response headers %v", resp.Header)
	}
}

func TestStopsGracefully(t *testing.T) {
	r := start(t, Behaviour{Latency: Latency{Low: 700 * time.Millisecond}})
	idle, err := net.Dial("tcp", r.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	_, _ = io.WriteString(idle, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := idle.Read(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	under := make(chan error, 1)
	go func() {
		code, _, err := get(t, once(), r.url("/"))
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		under <- err
	}()
	await(t, "the request to be under way", func() bool { return r.Traffic().InFlight == 1 })
	r.Terminate()
	await(t, "the listener to close", func() bool {
		c, err := net.Dial("tcp", r.at.String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	_ = idle.SetReadDeadline(time.Now().Add(patience))
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle connection: %v, want it to be closed", err)
	}
	if err := <-under; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	r.awaitExit(t, "0")
	if got := r.Traffic(); got.Requests != 1 || got.InFlight != 0 || got.LastAnswer.IsZero() {
		t.Errorf("traffic %+v", got)
	}
}

func TestDiesAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		b    Behaviour
		end  func(*Process)
		exit string
	}{
		{"abrupt on SIGTERM", Behaviour{OnSIGTERM: Abrupt}, (*Process).Terminate, "143"},
		{"SIGKILL", Behaviour{OnSIGTERM: Ignore}, func(p *Process) { p.Terminate(); p.Kill() }, "137"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.b.Latency.Low = time.Hour
			r := start(t, c.b)
			cut := make(chan error, 1)
			go func() {
				_, _, err := get(t, once(), r.url("/"))
				cut <- err
			}()
			await(t, "the request to be under way", func() bool { return r.Traffic().InFlight == 1 })
			c.end(r.Process)
			if err := <-cut; err == nil || os.IsTimeout(err) {
				t.Errorf("the request under way: %v, want its connection to be cut", err)
			}
			if _, _, err := get(t, once(), r.url("/livez")); err == nil {
				t.Error("it still answers")
			}
			r.awaitExit(t, c.exit)
			await(t, "the handler to notice", func() bool { return r.Traffic().InFlight == 0 })
		})
	}
}

func TestIgnoresSIGTERM(t *testing.T) {
	r := start(t, Behaviour{OnSIGTERM: Ignore})
	r.Terminate()
	if code, _, err := get(t, once(), r.url("/")); err != nil || code != http.StatusOK {
		t.Errorf("%d, %v", code, err)
	}
}

func TestDrainDelayAcceptsAndClosesConnections(t *testing.T) {
	r := start(t, Behaviour{DrainDelay: time.Second})
	r.Terminate()
	resp, err := keep(t).Get(r.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !resp.Close {
		t.Error("the connection is kept although the process is about to stop")
	}
	r.awaitExit(t, "0")
}

func TestStartupAndReadyDelay(t *testing.T) {
	r := start(t, Behaviour{StartupDelay: 300 * time.Millisecond, ReadyDelay: 700 * time.Millisecond})
	if _, _, err := get(t, once(), r.url("/livez")); err == nil {
		t.Error("it listens before its start-up delay is over")
	}
	await(t, "it to listen", func() bool { code, _, _ := get(t, once(), r.url("/livez")); return code == http.StatusOK })
	if code, _, _ := get(t, once(), r.url("/readyz")); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz before it is ready: %d", code)
	}
	if code, _, _ := get(t, once(), r.url("/")); code != http.StatusServiceUnavailable {
		t.Errorf("/ before it is ready: %d", code)
	}
	await(t, "it to be ready", func() bool { code, _, _ := get(t, once(), r.url("/readyz")); return code == http.StatusOK })
}

func TestErrorRateIsSeededAndSparesHealth(t *testing.T) {
	const n = 400
	run := func() (failed int, which string) {
		r := start(t, Behaviour{ErrorRate: 0.25})
		defer r.Kill()
		c := keep(t)
		for range n {
			code, _, err := get(t, c, r.url("/"))
			if err != nil {
				t.Fatal(err)
			}
			if code == http.StatusInternalServerError {
				failed++
				which += "x"
			} else {
				which += "."
			}
		}
		if code, _, _ := get(t, c, r.url("/healthz")); code != http.StatusOK {
			t.Errorf("/healthz: %d", code)
		}
		return failed, which
	}
	failed, first := run()
	if failed < n*15/100 || failed > n*35/100 {
		t.Errorf("%d of %d failed, want about a quarter", failed, n)
	}
	if _, second := run(); second != first {
		t.Error("the same seed fails other requests")
	}
}

func TestCapacityMakesOthersWait(t *testing.T) {
	r := start(t, Behaviour{Capacity: 1, Latency: Latency{Low: 150 * time.Millisecond}})
	begin := time.Now()
	done := make(chan int, 3)
	for range 3 {
		go func() { code, _, _ := get(t, once(), r.url("/")); done <- code }()
	}
	for range 3 {
		if code := <-done; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
	if took := time.Since(begin); took < 450*time.Millisecond {
		t.Errorf("three answers of 150 ms, one at a time, took %s", took)
	}
}

func TestEndsByItself(t *testing.T) {
	start(t, Behaviour{CrashAfter: 50 * time.Millisecond}).awaitExit(t, "1 crashed")
	start(t, Behaviour{App: "pause", RunFor: new(50 * time.Millisecond), ExitCode: 4}).awaitExit(t, "4")
	start(t, Behaviour{App: "pause", RunFor: new(time.Duration(0))}).awaitExit(t, "0")
}

func TestPortInUse(t *testing.T) {
	r := start(t, Behaviour{})
	startAt(t, Behaviour{}, r.at).awaitExit(t, "1 cannot listen at "+r.at.String())
}

func TestColour(t *testing.T) {
	r := start(t, Behaviour{App: "color"})
	if code, body, err := get(t, once(), r.url("/color")); err != nil || code != http.StatusOK || body != `"v1"` {
		t.Errorf("%d %q %v", code, body, err)
	}
	if code, body, err := get(t, once(), r.url("/")); err != nil || code != http.StatusOK || !strings.Contains(body, "<h1>web-1") {
		t.Errorf("%d %q %v", code, body, err)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// crowdEnv makes the test binary a process with few file handles that starts more applications than they last for.
const crowdEnv = "LOCKSTEP_TEST_CROWD"

func TestMain(m *testing.M) {
	if os.Getenv(crowdEnv) != "" {
		crowd()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// crowd prints why the first application cannot listen.
func crowd() {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		fmt.Println(err)
		return
	}
	vpc, err := address.Claim()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer vpc.Release()
	exits := make(chan string, 100)
	for i := range cap(exits) {
		Start(Config{
			Behaviour: Behaviour{App: "echo"}, Listen: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, vpc.Octet, 1, byte(i)}), 8080)},
			Exited: func(_ int32, message string) { exits <- message },
		})
	}
	fmt.Println(<-exits)
}

func TestSaysWhenFileHandlesAreShort(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crowdEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "all 64 file handles that this process may have are in use") || !strings.Contains(string(out), "ulimit -n") {
		t.Errorf("it says %q (%v)", out, err)
	}
}

// discard is a response that goes nowhere.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkHandler is what an application adds to a request, without the server:
//
//	go test ./sandbox/kubelet/app -run '^$' -bench Handler
func BenchmarkHandler(b *testing.B) {
	for _, name := range []string{"echo", "color"} {
		b.Run(name, func(b *testing.B) {
			r := start(b, Behaviour{App: name})
			req, _ := http.NewRequest(http.MethodGet, "/color", nil)
			req.RequestURI = "/color"
			req.Header = http.Header{"User-Agent": {"load"}, "X-Forwarded-For": {"10.1.0.3"}, "X-Forwarded-Proto": {"http"}, "X-Amzn-Trace-Id": {"Root=1-67891233-abcdef012345678912345678"}}
			w := &discard{h: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				r.ServeHTTP(w, req)
			}
		})
	}
}

// BenchmarkRequest is a request over a kept connection, client included:
//
//	go test ./sandbox/kubelet/app -run '^$' -bench Request
func BenchmarkRequest(b *testing.B) {
	r := start(b, Behaviour{})
	c := keep(b)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := c.Get(r.url("/"))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// BenchmarkListeners starts 10,000 applications, each at an address of its own, and says what one costs. It
// needs as many file handles:
//
//	go test ./sandbox/kubelet/app -run '^$' -bench Listeners -benchtime 1x
func BenchmarkListeners(b *testing.B) {
	const n = 10_000
	vpc, err := address.Claim()
	if err != nil {
		b.Fatal(err)
	}
	defer vpc.Release()
	for b.Loop() {
		before := goMemory()
		processes := make([]*Process, 0, n)
		begin := time.Now()
		var failed atomic.Int32
		for i := range n {
			processes = append(processes, Start(Config{
				Identity:  Identity{Pod: fmt.Sprint("web-", i), Version: "v1"},
				Behaviour: Behaviour{App: "echo", OnSIGTERM: Graceful},
				Listen:    []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, vpc.Octet, byte(i>>8) + 1, byte(i)}), 8080)},
				Exited: func(code int32, message string) {
					if code != exitKilled && failed.Add(1) == 1 {
						b.Error(message)
					}
				},
			}))
		}
		b.ReportMetric(time.Since(begin).Seconds(), "s/10000")
		b.ReportMetric(float64(goMemory()-before)/1e6, "MB/10000")
		for _, p := range processes {
			p.Kill()
		}
	}
}

// goMemory is what the Go runtime holds in heap and stacks; the kernel's part of a listener is not in it.
func goMemory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
