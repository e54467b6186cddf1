package kubelet

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
)

// probeAgent is what applications see as the client of a probe.
const probeAgent = "kube-probe/1.36"

// probesAtOnce bounds the probes under way. A machine that is too busy for all probes in time must make them late,
// not fail them: the time-out of a probe begins when it is sent.
const probesAtOnce = 256

var probeDialer = net.Dialer{KeepAlive: -1}

func (k *Kubelet) runProbe(v view, r running, a lifecycle.Probe) lifecycle.Input {
	result := lifecycle.Probed{Ref: a.Ref, Kind: a.Kind}
	select {
	case k.probes <- struct{}{}:
		defer func() { <-k.probes }()
	case <-k.life.Done():
		return result
	}
	if v.node.lost() { // nothing is wrong within it
		result.OK = true
		return result
	}
	timeout := time.Duration(max(a.Spec.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(k.life, timeout)
	defer cancel()
	spec := container(v.pod, a.Container)
	var err error
	switch h := a.Spec.ProbeHandler; {
	case h.HTTPGet != nil:
		err = k.httpGet(ctx, v.addr, spec, h.HTTPGet)
	case h.TCPSocket != nil:
		err = k.tcpConnect(ctx, v.addr, spec, h.TCPSocket)
	case h.Exec != nil:
		err = v.execProbe(ctx, r, h.Exec.Command)
	case h.GRPC != nil:
		err = k.grpcCheck(ctx, v.addr, spec, h.GRPC)
	default:
		err = errors.New("the probe says nothing to do: give it httpGet, tcpSocket, exec or grpc")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %s: %w", timeout, err)
	}
	if result.OK = err == nil; !result.OK {
		result.Message = err.Error()
	}
	return result
}

// execProbe runs a probe's command: exit code 0 is success, and what it writes is the message otherwise. Programs of
// a simulated application that the sandbox does not have, such as pg_isready, find what a health check would.
func (v view) execProbe(ctx context.Context, r running, argv []string) error {
	var out bytes.Buffer
	code, err := v.exec(ctx, r, argv, streams{out: &out, err: &out}, func([]string) uint8 {
		if p, ok := r.process.(*app.Process); ok && p.Healthy() {
			return 0
		}
		return 1
	})
	switch {
	case err != nil:
		return fmt.Errorf("command %q: %w", argv, err)
	case code != 0:
		return errors.New(cmp.Or(firstBytes(out.String(), probeMessage), fmt.Sprintf("command %q exited with %d", argv, code)))
	}
	return nil
}

// probeMessage is how much of a command's output is told.
const probeMessage = 1024

func firstBytes(s string, n int) string { return s[:min(len(s), n)] }

func (k *Kubelet) runHook(v view, r running, a lifecycle.RunHook) lifecycle.Input {
	done := lifecycle.HookDone{Ref: a.Ref, Kind: a.Kind}
	var err error
	switch h := a.Hook; {
	case h.HTTPGet != nil:
		err = k.httpGet(k.life, v.addr, container(v.pod, a.Container), h.HTTPGet)
	case h.Exec != nil:
		err = v.execHook(k.life, r, h.Exec.Command)
	default:
		err = errors.New("the sandbox runs exec, httpGet and sleep hooks")
	}
	if err != nil {
		done.Err = err.Error()
	}
	return done
}

// execHook runs a hook's command. Programs of a simulated application that the sandbox does not have, such as
// nginx -s quit, are taken for done.
func (v view) execHook(ctx context.Context, r running, argv []string) error {
	var out bytes.Buffer
	code, err := v.exec(ctx, r, argv, streams{out: &out, err: &out}, func(args []string) uint8 {
		r.log.Printf("%q is not simulated; taken for done", args)
		return 0
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("command %q exited with %d: %s", argv, code, firstBytes(out.String(), probeMessage))
	}
	return err
}

// httpGet asks once, over a connection of its own, and takes any status from 200 to 399 for success. A redirect is
// not followed: it could lead out of the sandbox. It is written to the connection directly, since an
// http.Client costs several times as much and thousands of pods are asked.
func (k *Kubelet) httpGet(ctx context.Context, addr netip.Addr, spec *corev1.Container, get *corev1.HTTPGetAction) error {
	if get.Scheme == corev1.URISchemeHTTPS {
		return errors.New("the sandbox's applications do not speak HTTPS: use the scheme HTTP")
	}
	at, err := k.endpoint(addr, get.Host, get.Port, spec)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+net.JoinHostPort(addr.String(), portString(get.Port, spec)), nil)
	if err != nil {
		return fmt.Errorf("cannot ask %s: %w", at, err)
	}
	if path, err := url.Parse(get.Path); err == nil {
		request.URL.Path, request.URL.RawQuery = path.Path, path.RawQuery
	}
	request.Close = true
	for _, h := range get.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			request.Host = h.Value
			continue
		}
		request.Header.Add(h.Name, h.Value)
	}
	for name, value := range map[string]string{"User-Agent": probeAgent, "Accept": "*/*"} {
		if request.Header.Get(name) == "" {
			request.Header.Set(name, value)
		}
	}
	status, err := exchange(ctx, at, request)
	if err != nil {
		//lint:ignore ST1005 events show a kubelet's own words, and people search for them
		return fmt.Errorf("Get %q: %w", request.URL, err)
	}
	if status < 200 || status >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", status)
	}
	return nil
}

var responseReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 1024) }}

// exchange sends a request to an address and returns the status of the answer.
func exchange(ctx context.Context, at netip.AddrPort, request *http.Request) (int, error) {
	conn, err := probeDialer.DialContext(ctx, "tcp4", at.String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := request.Write(conn); err != nil {
		return 0, err
	}
	r := responseReaders.Get().(*bufio.Reader)
	r.Reset(conn)
	defer responseReaders.Put(r)
	response, err := http.ReadResponse(r, request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 10<<10)
	return response.StatusCode, nil
}

func (k *Kubelet) tcpConnect(ctx context.Context, addr netip.Addr, spec *corev1.Container, sock *corev1.TCPSocketAction) error {
	at, err := k.endpoint(addr, sock.Host, sock.Port, spec)
	if err != nil {
		return err
	}
	conn, err := probeDialer.DialContext(ctx, "tcp4", at.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// endpoint returns where a port of the pod, or of another host of the VPC, is really served.
func (k *Kubelet) endpoint(addr netip.Addr, host string, port intstr.IntOrString, spec *corev1.Container) (netip.AddrPort, error) {
	if host != "" {
		other, err := netip.ParseAddr(host)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("host %q is not an address: leave it out to reach the pod itself", host)
		}
		addr = other
	}
	n, err := strconv.ParseUint(portString(port, spec), 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("container %s has no port %s", spec.Name, port.String())
	}
	at := k.cfg.VPC.Real(netip.AddrPortFrom(addr, uint16(n)))
	if !at.IsValid() {
		return netip.AddrPort{}, fmt.Errorf("%s:%d is not in the sandbox's VPC %s", addr, n, k.cfg.VPC.CIDR())
	}
	return at, nil
}

// portString resolves a port that may be named.
func portString(port intstr.IntOrString, spec *corev1.Container) string {
	for _, p := range spec.Ports {
		if port.Type == intstr.String && p.Name == port.StrVal {
			return strconv.Itoa(int(p.ContainerPort))
		}
	}
	return port.String()
}
