package kubelet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
)

// A gRPC probe asks by the health protocol: simulated applications answer as their behaviour says, and so may any other server.
func TestGRPCProbe(t *testing.T) {
	c := newCluster(t, nil)
	probe := func(service string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 8080, Service: &service}}, PeriodSeconds: 1, FailureThreshold: 1}
	}
	pod := c.create(echoPod(c.namespace(), func(p *corev1.Pod) {
		main := &p.Spec.Containers[0]
		main.ReadinessProbe, main.LivenessProbe = probe(""), probe("liveness")
		p.Annotations = map[string]string{"sandbox.lockstep.dev/ready-delay": "2s", "sandbox.lockstep.dev/unhealthy-after": "4s"}
	}))
	c.await(pod, "be started and not ready", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses
		return len(s) == 1 && s[0].State.Running != nil && !s[0].Ready && s[0].RestartCount == 0
	})
	c.await(pod, "be ready by gRPC", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].Ready
	})
	c.await(pod, "be restarted by gRPC", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
}

// What servers that are not ours answer is judged as a kubelet judges it.
func TestGRPCAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		code    int
		status  string
		body    []byte
		problem string
	}{
		{"serving", 200, "0", []byte{0, 0, 0, 0, 2, 8, 1}, ""},
		{"not serving", 200, "0", []byte{0, 0, 0, 0, 2, 8, 2}, `responded with "NOT_SERVING"`},
		{"no status is UNKNOWN", 200, "0", []byte{0, 0, 0, 0, 0}, `responded with "UNKNOWN"`},
		{"another service", 200, "12", nil, "does not implement the grpc health protocol"},
		{"unknown service", 200, "5", nil, `status "5"`},
		{"plain HTTP", 404, "", []byte("not found"), "HTTP status 404"},
		{"cut short", 200, "0", []byte{0, 0, 0, 0, 9, 8}, "not one uncompressed message"},
		{"something else", 200, "0", []byte{0, 0, 0, 0, 2, 18, 0}, "not a HealthCheckResponse"},
		{"an endless number", 200, "0", []byte{0, 0, 0, 0, 2, 8, 0x80}, "not a HealthCheckResponse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := judgeHealth(&http.Response{StatusCode: tt.code, Trailer: http.Header{"Grpc-Status": {tt.status}}}, tt.body)
			switch {
			case tt.problem == "" && err != nil:
				t.Error(err)
			case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
				t.Errorf("error %v, want %q", err, tt.problem)
			}
		})
	}
}

// A probe that gets no answer leaves no connection behind.
func TestGRPCWithoutAnswer(t *testing.T) {
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	pod := newAddresses(vpc.Mapping).next()
	mute, err := net.Listen("tcp4", vpc.Real(netip.AddrPortFrom(pod, 9000)).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	k := &Kubelet{cfg: Config{VPC: vpc.Mapping}}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		accepted := make(chan net.Conn, 1)
		go func() {
			if conn, err := mute.Accept(); err == nil {
				_, _ = io.ReadFull(conn, make([]byte, len("PRI * HTTP/2.0"))) // it is asked
				accepted <- conn
				cancel()
			}
		}()
		if err := k.grpcCheck(ctx, pod, &corev1.Container{Name: "web"}, &corev1.GRPCAction{Port: 9000}); err == nil {
			t.Error("a server that says nothing is healthy")
		}
		conn := <-accepted
		if err := conn.SetReadDeadline(time.Now().Add(patience / 6)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the connection stays open: %v", err)
		}
		_ = conn.Close()
	}
}
