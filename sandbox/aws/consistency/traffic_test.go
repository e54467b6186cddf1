package consistency_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/consistency"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
)

// slowly is how long a target takes for a slow request: longer than a change takes to reach a node.
const slowly = 300 * time.Millisecond

// serve lets a pod answer with its address and the moment at which the request came.
func (r *run) serve(pod string) {
	r.t.Helper()
	l, err := net.Listen("tcp", r.config.VPC.Real(netip.AddrPortFrom(netip.MustParseAddr(pod), 8080)).String())
	if err != nil {
		r.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		came := time.Now().UnixNano()
		if q.URL.Path == "/slow" {
			time.Sleep(slowly)
		}
		_, _ = fmt.Fprintf(w, "target %s %d", pod, came)
	})}
	go func() { _ = server.Serve(l) }()
	r.t.Cleanup(func() { _ = server.Close() })
}

// ask sends one request through a node of the base listener and notes how it was answered.
func (r *run) ask(client *http.Client, zone string, to netip.AddrPort, path string, groupOf map[string]string) {
	one := consistency.Request{LoadBalancer: r.balancer, Zone: zone, Listener: r.base, Sent: time.Now()}
	response, err := client.Get("http://" + to.String() + path)
	one.Arrived = time.Now()
	if err != nil {
		one.Failed = err.Error()
	} else {
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		one.Status = response.StatusCode
		var came int64
		switch {
		case err != nil:
			one.Failed = err.Error()
		case strings.HasPrefix(string(body), "target "):
			_, _ = fmt.Sscanf(string(body), "target %s %d", &one.Target, &came)
			one.Arrived, one.Group = time.Unix(0, came), groupOf[one.Target]
		case response.StatusCode == http.StatusOK:
			one.Fixed = string(body)
		}
	}
	r.mu.Lock()
	r.requests = append(r.requests, one)
	r.mu.Unlock()
}

// traffic is a run over real sockets, with real nodes and real targets, for some seconds.
func traffic(t *testing.T, profile string, scale float64, seed uint64, steps int) *consistency.History {
	t.Helper()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	var r *run
	r = newRun(t, profile, func(c *aws.Config) {
		c.VPC, c.Scale, c.Seed, c.OpenSecurityGroups = vpc.Mapping, scale, seed, true
		c.NewNode = func(d dataplane.Config) elbv2.Node { return r.observe(d, dataplane.NewNode(d)) }
	})
	return r.carry(seed, steps)
}

// carry lets programs change what is there while clients send requests through all nodes.
func (r *run) carry(seed uint64, steps int) *consistency.History {
	t := r.t
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.emulator.Serve(l) }()
	defer func() {
		if err := r.emulator.Close(); err != nil {
			t.Error(err)
		}
		<-served
	}()
	r.client, r.endpoint = &http.Client{Transport: &http.Transport{}}, "http://"+l.Addr().String()
	defer r.client.CloseIdleConnections()
	r.furnish()
	groupOf := map[string]string{}
	api := r.connect("registrar")
	for _, group := range r.groups {
		pod := r.pod()
		r.serve(pod)
		groupOf[pod] = group
		until(r, func() (*elb.RegisterTargetsOutput, error) {
			return api.RegisterTargets(t.Context(), &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: &pod}}})
		})
	}
	r.active()
	r.mine = func() string {
		pod := r.pod()
		r.serve(pod)
		r.mu.Lock()
		defer r.mu.Unlock()
		groupOf[pod] = r.groups[len(groupOf)%2]
		return pod
	}

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	start := make(chan struct{})
	for _, node := range r.emulator.Endpoints()[0].Nodes {
		for _, path := range []string{"/", "/slow"} {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			clients.Go(func() {
				<-start
				for ctx.Err() == nil {
					r.ask(client, node.Zone, node.Real[80], path, groupOf)
					time.Sleep(2 * time.Millisecond) // the pace of the clients
				}
			})
		}
	}
	r.started = func() { close(start) }
	r.work(3, seed, steps, 10*time.Millisecond)
	stop()
	clients.Wait()
	h := r.history()
	h.Slack = 3 * time.Second
	return h
}

// What clients of the nodes were answered is what the nodes had been told when the request came.
func TestRealTrafficKeepsTheClaims(t *testing.T) {
	var mu sync.Mutex
	all := map[string]int{}
	t.Cleanup(func() { // when all profiles are through: a claim that holds because nothing happened is worth nothing
		if all["fixed"] == 0 || all["forwarded"] == 0 {
			t.Errorf("answers %v, want fixed and forwarded ones", all)
		}
	})
	for _, one := range []struct {
		profile string
		scale   float64
	}{{"ideal", 1}, {"typical", 0.01}, {"pessimistic", 0.003}} {
		t.Run(one.profile, func(t *testing.T) {
			t.Parallel()
			for seed := range seeds(t, 1) {
				h := traffic(t, one.profile, one.scale, uint64(seed), 100)
				for _, v := range consistency.Check(h) {
					t.Errorf("seed %d: %s", seed, v)
				}
				answers := map[string]int{}
				for _, r := range h.Requests {
					switch {
					case r.Failed != "":
						answers["failed"]++
					case r.Fixed != "":
						answers["fixed"]++
					case r.Group != "":
						answers["forwarded"]++
					default:
						answers[fmt.Sprint(r.Status)]++
					}
				}
				mu.Lock()
				for kind, n := range answers {
					all[kind] += n
				}
				mu.Unlock()
				t.Logf("seed %d: %d calls, %d configurations, answers %v", seed, len(h.Calls), len(h.Told), answers)
			}
		})
	}
}
