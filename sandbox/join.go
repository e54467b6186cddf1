package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

var _ kubelet.Terminator = (*membership)(nil)

// membership is a cluster's part in the AWS account of another sandbox: its nodes are instances there, its pods have addresses there. It is
// that sandbox's admin API, seen from here.
type membership struct {
	host    State
	cluster string
	client  http.Client
}

// joinAccount enters the account of another running sandbox.
func (s *Sandbox) joinAccount(ctx context.Context) error {
	host, err := Running(s.config.Join)
	if err != nil {
		return fmt.Errorf("--join: %w", err)
	}
	if host.Joined != "" {
		return fmt.Errorf("--join: the account of sandbox %s is that of sandbox %s: join that one", host.Name, host.Joined)
	}
	m := &membership{host: host, cluster: s.config.ClusterName, client: http.Client{Timeout: 10 * time.Second}}
	if err := m.ask(ctx, http.MethodPut, "clusters/"+url.PathEscape(m.cluster), nil, nil); err != nil {
		return fmt.Errorf("--join: %w", err)
	}
	s.member = m
	return nil
}

// mapping is how the VPC of the account is served.
func (m *membership) mapping() (address.Mapping, error) {
	block, err := netip.ParsePrefix(m.host.VPCCIDR)
	if err != nil {
		return address.Mapping{}, fmt.Errorf("sandbox %s has a VPC that is none: %w", m.host.Name, err)
	}
	return address.Mapping{Octet: block.Addr().As4()[1], LowPortsMoved: m.host.LowPortsMoved}, nil
}

// AddInstance implements kubelet.Addresses.
func (m *membership) AddInstance(zone, name string) (string, netip.Addr, error) {
	asked := aws.Member{Zone: zone, Name: name}
	err := m.ask(context.Background(), http.MethodPost, "clusters/"+url.PathEscape(m.cluster)+"/instances", asked, &asked)
	return asked.ID, asked.Address, err
}

// RemoveInstance implements kubelet.Terminator.
func (m *membership) RemoveInstance(id string) error {
	return m.ask(context.Background(), http.MethodDelete, "instances/"+url.PathEscape(id), nil, nil)
}

// AssignPodAddress implements kubelet.Addresses.
func (m *membership) AssignPodAddress(instance string) (a netip.Addr, err error) {
	return a, m.ask(context.Background(), http.MethodPost, "instances/"+url.PathEscape(instance)+"/addresses", nil, &a)
}

// ReleasePodAddress implements kubelet.Addresses.
func (m *membership) ReleasePodAddress(a netip.Addr) error {
	return m.ask(context.Background(), http.MethodDelete, "addresses/"+a.String(), nil, nil)
}

// leave gives back what the cluster has in the account. An account that has ended has nothing of it any more.
func (m *membership) leave() error {
	err := m.ask(context.Background(), http.MethodDelete, "clusters/"+url.PathEscape(m.cluster), nil, nil)
	if _, running := Running(m.host.Name); errors.Is(running, ErrNotRunning) {
		return nil
	}
	return err
}

func (m *membership) ask(ctx context.Context, method, path string, body, out any) error {
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, m.host.AWSEndpoint+"/_lockstep/"+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	response, err := m.client.Do(request)
	if err != nil {
		return fmt.Errorf("sandbox %s, whose account this cluster is in, does not answer: %w", m.host.Name, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return fmt.Errorf("sandbox %s broke off its answer: %w", m.host.Name, err)
	case response.StatusCode >= 300:
		return fmt.Errorf("sandbox %s: %s", m.host.Name, strings.TrimSpace(string(answer)))
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}

// replaced is an error if the account that the cluster has joined is no more, and another process has taken its name and maybe its port: that one
// answers as well, and has nothing of the cluster.
func (m *membership) replaced() error {
	now, err := Running(m.host.Name)
	if err != nil || now.StartedAt.Equal(m.host.StartedAt) {
		return nil // what is not running does not answer either
	}
	return fmt.Errorf("sandbox %s, whose account this cluster was in, has been started anew, and the cluster has nothing there: start it anew as well", m.host.Name)
}

// lookEvery is how often a cluster looks at what is done to the account that it is in.
const lookEvery = 500 * time.Millisecond

// followAccount lets faults and the scale of the account reach this cluster. The sandbox ends with the account.
func (s *Sandbox) followAccount(life context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var last []fault.Fault
	for {
		var faults []fault.Fault
		var tempo aws.Tempo
		err := errors.Join(s.member.ask(life, http.MethodGet, "faults", nil, &faults), s.member.ask(life, http.MethodGet, "profile", nil, &tempo), s.member.replaced())
		switch {
		case life.Err() != nil:
			return
		case err != nil:
			s.fail(err)
			return
		}
		if !reflect.DeepEqual(faults, last) {
			last = faults
			if err := s.remote.Replace(faults); err != nil {
				s.config.Log.Error("a fault of the account is not understood", "error", err)
			}
		}
		if tempo.Scale != s.Kubelet().Scale() {
			s.rescale(tempo.Scale)
		}
		select {
		case <-look.C:
		case <-life.Done():
			return
		}
	}
}
