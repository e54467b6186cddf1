package sandbox

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
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

	mu       sync.Mutex
	machines map[string]types.InstanceStateName // the cluster's instances, as the last answer of the account says
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
	if host.Protocol != protocol {
		return fmt.Errorf("--join: sandbox %s was started by another build of this program, which speaks another protocol to clusters: end it with '%s', and start it anew with this one",
			host.Name, Command("down", host.Name))
	}
	m := &membership{host: host, cluster: s.config.ClusterName, client: http.Client{Timeout: 10 * time.Second}}
	as := url.Values{"sandbox": {s.config.Name}}
	if err := m.ask(ctx, http.MethodPut, m.path()+"?"+as.Encode(), nil, nil); err != nil {
		return fmt.Errorf("--join: %w", err)
	}
	s.member = m
	return nil
}

// path is where the account's admin API has the cluster.
func (m *membership) path() string { return "clusters/" + url.PathEscape(m.cluster) }

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
	err := m.ask(context.Background(), http.MethodPost, m.path()+"/instances", asked, &asked)
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
	err := m.ask(context.Background(), http.MethodDelete, m.path(), nil, nil)
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
		return refusal{fmt.Sprintf("sandbox %s: %s", m.host.Name, strings.TrimSpace(string(answer)))}
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}

// refusal is an answer of the account that says no: asking again does not help.
type refusal struct{ says string }

func (r refusal) Error() string { return r.says }

// over is why the account is lost to the cluster for good, after an error of a request (or none). An account that lives and did not answer is not lost.
//
// One that is no more, whose name and maybe port another process has taken, is lost as well: that process answers, and has nothing of the cluster.
func (m *membership) over(err error) error {
	if _, no := errors.AsType[refusal](err); no {
		return err
	}
	now, gone := Running(m.host.Name)
	switch {
	case errors.Is(gone, ErrNotRunning):
		return cmp.Or(err, gone)
	case gone == nil && !now.StartedAt.Equal(m.host.StartedAt):
		return fmt.Errorf("sandbox %s, whose account this cluster was in, has been started anew, and the cluster has nothing there: start it anew as well", m.host.Name)
	}
	return nil
}

// account is what is done to the account and concerns its clusters.
type account struct {
	faults   []fault.Fault
	tempo    aws.Tempo
	machines []ec2.Machine
}

func (m *membership) look(ctx context.Context) (a account, err error) {
	return a, errors.Join(m.ask(ctx, http.MethodGet, "faults", nil, &a.faults), m.ask(ctx, http.MethodGet, "profile", nil, &a.tempo),
		m.ask(ctx, http.MethodGet, m.path()+"/instances", nil, &a.machines))
}

// learn takes in how the cluster's instances are, and says whether that is news.
func (m *membership) learn(all []ec2.Machine) (news bool) {
	machines := map[string]types.InstanceStateName{}
	for _, one := range all {
		machines[one.ID] = one.State
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	news, m.machines = !maps.Equal(m.machines, machines), machines
	return news
}

// instance tells the state in which an instance of the cluster is; empty: the account has not told yet.
func (m *membership) instance(id string) types.InstanceStateName {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.machines[id]
}

// lookEvery is how often a cluster looks at what is done to the account that it is in.
const lookEvery = 500 * time.Millisecond

// followAccount lets faults, the scale and what becomes of instances in the account reach this cluster; wake is called when instances have changed.
// Each look asks how everything is, so that nothing is lost with an answer that breaks off. The sandbox ends with the account.
func (s *Sandbox) followAccount(life context.Context, wake func()) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var last []fault.Fault
	silent := false // the account
	for {
		now, err := s.member.look(life)
		over := s.member.over(err)
		switch {
		case life.Err() != nil:
			return
		case over != nil:
			s.fail(over)
			return
		case err != nil:
			if !silent { // once, however long it lasts
				s.config.Log.Warn("the account does not answer, and is asked again", "error", err)
			}
			silent = true
		default:
			silent = false
			if !reflect.DeepEqual(now.faults, last) {
				last = now.faults
				if err := s.remote.Replace(last); err != nil {
					s.config.Log.Error("a fault of the account is not understood", "error", err)
				}
			}
			if now.tempo.Scale != s.scale() {
				s.rescale(now.tempo.Scale)
			}
			if s.member.learn(now.machines) {
				wake()
			}
		}
		select {
		case <-look.C:
		case <-life.Done():
			return
		}
	}
}
