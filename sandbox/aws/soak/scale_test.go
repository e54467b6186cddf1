package soak

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// The size of a large account.
const (
	scaleBalancers  = 30
	scaleRules      = 100 // of each
	scaleGroups     = 10  // of each
	scaleTargets    = 10_000
	targetAddresses = 100
	targetPorts     = scaleTargets / targetAddresses
	firstTargetPort = 20_000
)

// childVariable tells this test binary that it is to be nothing but an emulator, of the VPC in its value.
const childVariable = "LOCKSTEP_SCALE_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is an emulator by itself, so that its memory can be told from that of clients and targets. It ends with its standard input.
func child(mapping string) error {
	config := aws.Config{OpenSecurityGroups: true, Unthrottled: true, Log: slog.New(slog.DiscardHandler), SharedProbes: os.Getenv("LOCKSTEP_SCALE_SHARED") != ""}
	if err := json.Unmarshal([]byte(mapping), &config.VPC); err != nil {
		return err
	}
	emulator, err := aws.New(config)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = emulator.Serve(l) }()
	mux := http.NewServeMux()
	mux.HandleFunc("/memory", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("gc") {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(inner{Goroutines: runtime.NumGoroutine(), HeapMB: float64(m.HeapAlloc) / (1 << 20), StacksMB: float64(m.StackInuse) / (1 << 20), SysMB: float64(m.Sys) / (1 << 20)})
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	go func() { _ = http.Serve(inside, mux) }()
	fmt.Println(l.Addr(), inside.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return emulator.Close()
}

// inner is what the process says of itself, outer what the system says of it.
type inner struct {
	Goroutines              int
	HeapMB, StacksMB, SysMB float64
}

type outer struct {
	residentMB, highestMB float64
	handles               int
}

func look(pid int) (o outer, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return o, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kilobytes, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			o.residentMB = kilobytes / 1024
		case "VmHWM":
			o.highestMB = kilobytes / 1024
		}
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	o.handles = len(list)
	return o, err
}

// BenchmarkScale measures an account with 30 load balancers of 100 rules, 300 target groups and 10,000 targets that are checked by the
// nodes of two zones each, and the calls that its API answers meanwhile:
//
//	LOCKSTEP_SCALE=1 go test -run '^$' -bench Scale -benchtime 1x -timeout 10m ./sandbox/aws/soak
//
// The emulator is a process of its own. It needs 12,000 open files for each of both.
func BenchmarkScale(b *testing.B) {
	if os.Getenv("LOCKSTEP_SCALE") == "" {
		b.Skip("set LOCKSTEP_SCALE=1: this takes minutes and thousands of sockets")
	}
	w, pid, inside := newScale(b)
	for b.Loop() {
		start := time.Now()
		addresses := w.listenAll()
		groups := w.build(addresses)
		b.ReportMetric(time.Since(start).Seconds(), "s-to-build")
		w.allHealthy(groups)
		b.ReportMetric(time.Since(start).Seconds(), "s-to-healthy")
		calls := w.callFor(10*time.Second, groups)
		o, err := look(pid)
		if err != nil {
			b.Fatal(err)
		}
		var i inner
		if err := w.getJSON("http://"+inside+"/memory?gc", &i); err != nil {
			b.Fatal(err)
		}
		if path := os.Getenv("LOCKSTEP_SCALE_PROFILE"); path != "" {
			if err := w.save("http://"+inside+"/debug/pprof/heap", path); err != nil {
				b.Error(err)
			}
		}
		b.ReportMetric(calls, "calls/s")
		b.ReportMetric(o.residentMB, "MB-resident")
		b.ReportMetric(o.highestMB, "MB-highest")
		b.ReportMetric(i.HeapMB, "MB-heap")
		b.ReportMetric(i.StacksMB, "MB-stacks")
		b.ReportMetric(float64(i.Goroutines), "goroutines")
		b.ReportMetric(float64(o.handles), "handles")
		if o.highestMB > 1000 {
			b.Errorf("the emulator took %.0f MB", o.highestMB)
		}
	}
}

// newScale starts the emulator as a process of its own.
func newScale(b *testing.B) (w *world, pid int, inside string) {
	vpc, err := address.Claim()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = vpc.Release() })
	mapping, err := json.Marshal(vpc.Mapping)
	if err != nil {
		b.Fatal(err)
	}
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), childVariable+"="+string(mapping))
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := process.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = input.Close()
		_ = process.Wait()
	})
	w = &world{TB: b, vpc: vpc, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	if _, err := fmt.Fscanln(bufio.NewReader(output), &w.api, &inside); err != nil {
		b.Fatal("the emulator does not say where it is: ", err)
	}
	w.connect()
	return w, process.Process.Pid, inside
}

// listenAll serves all targets and returns their addresses: those are chosen from the subnets, beyond what the emulator gives away.
func (w *world) listenAll() (addresses []string) {
	out, err := w.ec2.DescribeSubnets(w.Context(), &ec2.DescribeSubnetsInput{})
	zones := map[string]bool{}
	for _, s := range must(w, out, err).Subnets {
		if len(w.subnets) < 2 && !zones[*s.AvailabilityZone] {
			zones[*s.AvailabilityZone] = true
			w.subnets = append(w.subnets, *s.SubnetId)
			base := netip.MustParsePrefix(*s.CidrBlock).Addr().As4()
			for i := range targetAddresses / 2 {
				addresses = append(addresses, netip.AddrFrom4([4]byte{base[0], base[1], base[2] + 3, byte(100 + i)}).String())
			}
		}
	}
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	for _, a := range addresses {
		for port := range uint16(targetPorts) {
			l, err := net.Listen("tcp", w.vpc.Real(netip.AddrPortFrom(netip.MustParseAddr(a), firstTargetPort+port)).String())
			if err != nil {
				w.Fatal(err)
			}
			w.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						var request [512]byte
						_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
						if _, err := conn.Read(request[:]); err == nil {
							_, _ = io.WriteString(conn, answer)
						}
						_ = conn.Close()
					}()
				}
			}()
		}
	}
	return addresses
}

// build makes everything with calls of the API, four load balancers at a time.
func (w *world) build(addresses []string) (groups []string) {
	vpcs, err := w.ec2.DescribeVpcs(w.Context(), &ec2.DescribeVpcsInput{})
	vpc := must(w, vpcs, err).Vpcs[0].VpcId
	groups = make([]string, scaleBalancers*scaleGroups)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := int(next.Add(1)) - 1; n < scaleBalancers; n = int(next.Add(1)) - 1 {
				w.buildOne(n, vpc, groups[n*scaleGroups:(n+1)*scaleGroups], addresses)
			}
		})
	}
	all.Wait()
	return groups
}

func (w *world) buildOne(n int, vpc *string, groups, addresses []string) {
	ctx := w.Context()
	lb, err := w.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: new(fmt.Sprint("lb-", n)), Subnets: w.subnets, Scheme: types.LoadBalancerSchemeEnumInternal})
	if err != nil {
		w.Error(err)
		return
	}
	arn := lb.LoadBalancers[0].LoadBalancerArn
	const each = scaleTargets / scaleBalancers / scaleGroups
	for i := range groups {
		g, err := w.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
			Name: new(fmt.Sprintf("group-%d-%d", n, i)), Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: vpc, TargetType: types.TargetTypeEnumIp,
		})
		if err != nil {
			w.Error(err)
			return
		}
		groups[i] = *g.TargetGroups[0].TargetGroupArn
		in := &elb.RegisterTargetsInput{TargetGroupArn: &groups[i]}
		first := (n*scaleGroups + i) * each
		last := first + each
		if n == scaleBalancers-1 && i == scaleGroups-1 {
			last = scaleTargets // with the rest
		}
		for t := first; t < last; t++ {
			in.Targets = append(in.Targets, types.TargetDescription{Id: &addresses[t%targetAddresses], Port: new(int32(firstTargetPort + t/targetAddresses))})
		}
		if _, err := w.elb.RegisterTargets(ctx, in); err != nil {
			w.Error(err)
		}
	}
	forward := func(i int) []types.Action {
		return []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: &groups[i%scaleGroups]}}
	}
	l, err := w.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: arn, Port: new(int32(80)), Protocol: types.ProtocolEnumHttp, DefaultActions: forward(0)})
	if err != nil {
		w.Error(err)
		return
	}
	for i := range scaleRules {
		if _, err := w.elb.CreateRule(ctx, &elb.CreateRuleInput{
			ListenerArn: l.Listeners[0].ListenerArn, Priority: new(int32(i + 1)), Actions: forward(i), Conditions: []types.RuleCondition{
				{Field: new("host-header"), Values: []string{fmt.Sprintf("shop-%d.example.com", i)}}, {Field: new("path-pattern"), Values: []string{fmt.Sprintf("/service-%d/*", i)}},
			},
		}); err != nil {
			w.Error(err)
			return
		}
	}
}

// allHealthy waits until the API shows every target as healthy.
func (w *world) allHealthy(groups []string) {
	healthy := 0
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		healthy = 0
		for _, g := range groups {
			out, err := w.elb.DescribeTargetHealth(w.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: &g})
			for _, d := range must(w, out, err).TargetHealthDescriptions {
				if d.TargetHealth.State == types.TargetHealthStateEnumHealthy {
					healthy++
				}
			}
		}
		if healthy == scaleTargets {
			return
		}
	}
	w.Fatalf("%d of %d targets are healthy", healthy, scaleTargets)
}

// callFor makes calls as fast as eight clients can and returns how many were answered each second: reads of a group's health and of
// its tags, and one write in ten that every node of its load balancer has to learn of.
func (w *world) callFor(lasts time.Duration, groups []string) float64 {
	ctx, start := w.Context(), time.Now()
	var calls, failed atomic.Int64
	var last atomic.Value
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := i; time.Since(start) < lasts; n++ {
				group := groups[n%len(groups)]
				var err error
				switch {
				case n%10 == 0:
					_, err = w.elb.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{TargetGroupArn: &group, HealthyThresholdCount: new(int32(2 + n%5))})
				case n%3 == 0:
					_, err = w.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &group})
				default:
					_, err = w.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: []string{group}})
				}
				if err != nil {
					failed.Add(1)
					last.Store(err.Error())
					continue
				}
				calls.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() > calls.Load()/1000 {
		w.Errorf("%d of %d calls failed, the last one: %v", failed.Load(), calls.Load()+failed.Load(), last.Load())
	}
	return float64(calls.Load()) / time.Since(start).Seconds()
}

func (w *world) getJSON(from string, into any) error {
	response, err := w.client.Get(from)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

func (w *world) save(from, path string) error {
	response, err := w.client.Get(from)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := io.Copy(&text, response.Body); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}
