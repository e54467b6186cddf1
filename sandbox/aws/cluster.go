package aws

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"

	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// clusters are those of other processes that run their nodes and pods in this account.
type clusters struct {
	mu      sync.Mutex
	joined  map[string]string // by name, the sandbox of each
	members map[string]Member // their nodes, by the ids of the instances
}

// Member is a machine that a cluster of another process asks for, and what it gets.
type Member struct {
	Cluster string `json:"cluster"`
	Zone    string `json:"zone"`
	Name    string `json:"name"`
	// ID and Address are those of the instance. The emulator sets them.
	ID      string     `json:"id,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
}

var clusterName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,99}$`)

const clusterTagPrefix = "kubernetes.io/cluster/"

// Join lets the cluster of another process, which runs as the sandbox of this name, have its nodes in this account. Subnets and the security group of
// nodes get its tag. What a killed cluster of that name has left behind is taken away; one that lives is in the way.
func (e *Emulator) Join(cluster, sandbox string) error {
	switch {
	case !clusterName.MatchString(cluster):
		return fmt.Errorf("%q cannot be the name of a cluster: use up to 100 letters, digits, hyphens and underscores", cluster)
	case cluster == e.config.Cluster:
		return fmt.Errorf("cluster %s cannot join: that is the name of the account's own", cluster)
	}
	if err := e.admit(cluster, sandbox); err != nil {
		return err
	}
	if err := e.clear(cluster); err != nil {
		return err
	}
	e.gate.RLock()
	defer e.gate.RUnlock()
	defer e.keeper.Changed()
	return e.label(cluster)
}

// admit gives a cluster's name to a sandbox, unless it is that of a cluster that lives.
func (e *Emulator) admit(cluster, sandbox string) error {
	c := &e.clusters
	c.mu.Lock()
	defer c.mu.Unlock()
	switch holder, joined := c.joined[cluster]; {
	case joined && holder == "":
		return fmt.Errorf("cluster %s cannot join: one of that name has joined already, and nobody said in which sandbox it runs: end it with DELETE %sclusters/%s, or choose another name",
			cluster, adminPath, cluster)
	case joined && holder != sandbox && (e.config.Lives == nil || e.config.Lives(holder)):
		return fmt.Errorf("cluster %s cannot join: sandbox %s runs a cluster of that name in this account: choose another name (--cluster-name), or end that sandbox first",
			cluster, holder)
	}
	c.joined[cluster] = sandbox
	return nil
}

// label tags what all clusters share with the name of one.
func (e *Emulator) label(cluster string) error {
	shared, err := e.shared()
	if err != nil {
		return err
	}
	_, err = e.ec2.CreateTags(eventual.Reader{}, &ec2api.CreateTagsInput{Resources: shared, Tags: []types.Tag{{Key: new(clusterTagPrefix + cluster), Value: new("shared")}}})
	return err
}

func (e *Emulator) shared() ([]string, error) {
	shared := []string{e.ec2.NodeSecurityGroup()}
	all, err := e.ec2.DescribeSubnets(eventual.Reader{}, &ec2api.DescribeSubnetsInput{})
	if err != nil {
		return nil, err
	}
	for _, s := range all.Subnets {
		shared = append(shared, *s.SubnetId)
	}
	return shared, nil
}

// Leave terminates the instances of a cluster of another process and takes its tag away. That there is none is no error.
func (e *Emulator) Leave(cluster string) error {
	if cluster == e.config.Cluster {
		return fmt.Errorf("cluster %s cannot leave: it is the account's own", cluster)
	}
	err := e.clear(cluster)
	e.clusters.mu.Lock()
	defer e.clusters.mu.Unlock()
	delete(e.clusters.joined, cluster)
	return err
}

// clear takes away what a cluster of another process has in the account.
func (e *Emulator) clear(cluster string) error {
	e.gate.RLock()
	defer e.gate.RUnlock()
	e.clusters.mu.Lock()
	maps.DeleteFunc(e.clusters.members, func(_ string, m Member) bool { return m.Cluster == cluster })
	e.clusters.mu.Unlock()
	defer e.keeper.Changed()
	all, err := e.ec2.DescribeInstances(eventual.Reader{}, &ec2api.DescribeInstancesInput{Filters: []types.Filter{
		{Name: new("tag:" + clusterTagPrefix + cluster), Values: []string{"owned"}}, {Name: new("instance-state-name"), Values: []string{"running", "stopped"}},
	}})
	if err != nil {
		return err
	}
	for _, r := range all.Reservations {
		for _, i := range r.Instances {
			if err := e.ec2.RemoveInstance(*i.InstanceId); err != nil {
				return err
			}
		}
	}
	shared, err := e.shared()
	if err != nil {
		return err
	}
	_, err = e.ec2.DeleteTags(eventual.Reader{}, &ec2api.DeleteTagsInput{Resources: shared, Tags: []types.Tag{{Key: new(clusterTagPrefix + cluster)}}})
	return err
}

// leaveAll takes away what clusters of other processes had in the account before a restart: they have ended with it.
func (e *Emulator) leaveAll() error {
	all, err := e.ec2.DescribeTags(eventual.Reader{}, &ec2api.DescribeTagsInput{Filters: []types.Filter{
		{Name: new("resource-type"), Values: []string{"subnet"}}, {Name: new("key"), Values: []string{clusterTagPrefix + "*"}},
	}})
	if err != nil {
		return err
	}
	for _, tag := range all.Tags {
		if name := strings.TrimPrefix(*tag.Key, clusterTagPrefix); name != e.config.Cluster {
			err = errors.Join(err, e.Leave(name))
		}
	}
	return err
}

// AddMember starts the instance of a node of a cluster that has joined.
func (e *Emulator) AddMember(m Member) (Member, error) {
	e.gate.RLock()
	defer e.gate.RUnlock()
	e.clusters.mu.Lock()
	defer e.clusters.mu.Unlock()
	if _, joined := e.clusters.joined[m.Cluster]; !joined {
		return m, fmt.Errorf("cannot start node %s: %w", m.Name, notJoined(m.Cluster))
	}
	instance, err := e.ec2.AddNode(ec2.NodeSpec{Name: m.Name, Cluster: m.Cluster, Zone: m.Zone})
	if err != nil {
		return m, err
	}
	m.ID, m.Address = instance.ID, instance.Address
	e.clusters.members[m.ID] = m
	e.keeper.Changed()
	return m, nil
}

func notJoined(cluster string) error {
	return fmt.Errorf("cluster %q is not in this account: it has not joined, or somebody has let it leave", cluster)
}

// Machines tells how the instances of a cluster that has joined are at this moment, in order of their ids: also those that were terminated by an AWS
// API, until the cluster takes them away itself.
func (e *Emulator) Machines(cluster string) ([]ec2.Machine, error) {
	e.clusters.mu.Lock()
	defer e.clusters.mu.Unlock()
	if _, joined := e.clusters.joined[cluster]; !joined {
		return nil, notJoined(cluster)
	}
	machines := []ec2.Machine{}
	for _, id := range slices.Sorted(maps.Keys(e.clusters.members)) {
		if e.clusters.members[id].Cluster == cluster {
			machines = append(machines, e.ec2.MachineByID(id))
		}
	}
	return machines, nil
}

// RemoveMember terminates the instance of a node of a cluster that has joined. One that has ended already is no error.
func (e *Emulator) RemoveMember(id string) error {
	e.gate.RLock()
	defer e.gate.RUnlock()
	e.clusters.mu.Lock()
	_, ok := e.clusters.members[id]
	delete(e.clusters.members, id)
	e.clusters.mu.Unlock()
	if _, there := e.ec2.InstanceByID(id); !ok && there {
		return fmt.Errorf("cannot terminate instance %s: it is no node of a cluster that has joined", id)
	}
	if !ok {
		return nil
	}
	defer e.keeper.Changed()
	return e.ec2.RemoveInstance(id)
}

// relabel tags again what a reset has untagged.
func (e *Emulator) relabel() {
	e.clusters.mu.Lock()
	defer e.clusters.mu.Unlock()
	for cluster := range e.clusters.joined {
		if err := e.label(cluster); err != nil {
			e.config.Log.Error("a cluster that has joined loses its tags", "cluster", cluster, "error", err)
		}
	}
}

// machines names what faults of kind node can take away.
func (e *Emulator) machines() (names []string) {
	if e.config.Machines != nil {
		names = e.config.Machines()
	}
	e.clusters.mu.Lock()
	defer e.clusters.mu.Unlock()
	for _, m := range e.clusters.members {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// clusterHandler adds to the admin API what clusters of other processes need.
func (e *Emulator) clusterHandler(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, value any, err error) {
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case value == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			writeJSON(w, value)
		}
	}
	mux.HandleFunc("PUT "+adminPath+"clusters/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, e.Join(r.PathValue("name"), r.URL.Query().Get("sandbox")))
	})
	mux.HandleFunc("DELETE "+adminPath+"clusters/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, e.Leave(r.PathValue("name")))
	})
	mux.HandleFunc("GET "+adminPath+"clusters/{name}/instances", func(w http.ResponseWriter, r *http.Request) {
		machines, err := e.Machines(r.PathValue("name"))
		answer(w, machines, err)
	})
	mux.HandleFunc("POST "+adminPath+"clusters/{name}/instances", func(w http.ResponseWriter, r *http.Request) {
		var m Member
		err := readJSON(w, r, &m)
		if err == nil {
			m.Cluster = r.PathValue("name")
			m, err = e.AddMember(m)
		}
		answer(w, m, err)
	})
	mux.HandleFunc("DELETE "+adminPath+"instances/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, e.RemoveMember(r.PathValue("id")))
	})
	mux.HandleFunc("POST "+adminPath+"instances/{id}/addresses", func(w http.ResponseWriter, r *http.Request) {
		e.gate.RLock()
		defer e.gate.RUnlock()
		a, err := e.ec2.AssignPodAddress(r.PathValue("id"))
		e.keeper.Changed()
		answer(w, a, err)
	})
	mux.HandleFunc("DELETE "+adminPath+"addresses/{address}", func(w http.ResponseWriter, r *http.Request) {
		a, err := netip.ParseAddr(strings.TrimSpace(r.PathValue("address")))
		if err == nil {
			e.gate.RLock()
			defer e.gate.RUnlock()
			err = e.ec2.ReleasePodAddress(a)
			e.keeper.Changed()
		}
		answer(w, nil, err)
	})
}
