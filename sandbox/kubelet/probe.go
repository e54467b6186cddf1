package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
)

// probeAgent is what applications see as the client of a probe.
const probeAgent = "kube-probe/1.36"

func newProbeClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives:  true, // each probe is a connection of its own, as a kubelet's are
			DisableCompression: true,
			DialContext:        (&net.Dialer{KeepAlive: -1}).DialContext,
		},
		// A redirect counts as success. Following it could lead out of the sandbox.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (k *Kubelet) runProbe(obj *corev1.Pod, addr netip.Addr, a lifecycle.Probe) lifecycle.Input {
	timeout := time.Duration(max(a.Spec.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(k.life, timeout)
	defer cancel()
	spec := container(obj, a.Container)
	var err error
	switch h := a.Spec.ProbeHandler; {
	case h.HTTPGet != nil:
		err = k.httpGet(ctx, addr, spec, h.HTTPGet)
	case h.TCPSocket != nil:
		err = k.tcpConnect(ctx, addr, spec, h.TCPSocket)
	default:
		err = errors.New("the sandbox does not run exec and grpc probes: use httpGet or tcpSocket")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s: %w", timeout, err)
	}
	result := lifecycle.Probed{Ref: a.Ref, Kind: a.Kind, OK: err == nil}
	if err != nil {
		result.Message = err.Error()
	}
	return result
}

func (k *Kubelet) runHook(obj *corev1.Pod, addr netip.Addr, a lifecycle.RunHook) lifecycle.Input {
	done := lifecycle.HookDone{Ref: a.Ref}
	if a.Hook.HTTPGet == nil {
		done.Err = "the sandbox does not run exec hooks other than a plain sleep"
		return done
	}
	if err := k.httpGet(k.life, addr, container(obj, a.Container), a.Hook.HTTPGet); err != nil {
		done.Err = err.Error()
	}
	return done
}

func (k *Kubelet) httpGet(ctx context.Context, addr netip.Addr, spec *corev1.Container, get *corev1.HTTPGetAction) error {
	at, err := k.endpoint(addr, get.Host, get.Port, spec)
	if err != nil {
		return err
	}
	target := url.URL{Scheme: strings.ToLower(string(get.Scheme)), Host: at.String()}
	if target.Scheme == "" {
		target.Scheme = "http"
	}
	if path, err := url.Parse(get.Path); err == nil {
		target.Path, target.RawQuery = path.Path, path.RawQuery
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return fmt.Errorf("cannot ask %s: %w", target.String(), err)
	}
	req.Host = net.JoinHostPort(addr.String(), portString(get.Port, spec))
	req.Header.Set("User-Agent", probeAgent)
	req.Header.Set("Accept", "*/*")
	for _, h := range get.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		}
		req.Header.Set(h.Name, h.Value)
	}
	resp, err := k.probes.Do(req)
	if err != nil {
		return fmt.Errorf("Get %q: %w", "http://"+req.Host+get.Path, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 10<<10)
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}

func (k *Kubelet) tcpConnect(ctx context.Context, addr netip.Addr, spec *corev1.Container, sock *corev1.TCPSocketAction) error {
	at, err := k.endpoint(addr, sock.Host, sock.Port, spec)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp4", at.String())
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
