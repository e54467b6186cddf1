// Package sandbox is the test ground: a real kube-apiserver with etcd and controllers, a kubelet whose pods
// answer real requests, and an emulated AWS whose load balancers carry real traffic, all on loopback.
//
// Everything in a sandbox lives and dies with the process that started it. Several sandboxes run side by side:
// each has ports, a folder and a VPC (10.k.0.0/16, served at 127.k.0.0/16) of its own.
//
//	s, err := sandbox.Up(ctx, sandbox.Config{Name: "try", Profile: "typical", Scale: 0.1, Seed: 7})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//
// Start reading at Up.
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"k8s.io/client-go/rest"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dns"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet"
)

// The names that every sandbox uses.
const (
	ClusterName = "lockstep"
	Region      = "eu-west-1"
	AccountID   = "123456789012"
)

// Sandbox is a running sandbox.
type Sandbox struct {
	config   Config
	dir      string
	state    State
	rest     *rest.Config
	vpc      *address.VPC // nil: it is that of the account that was joined
	mapping  address.Mapping
	control  *apiserver.ControlPlane
	emulator *aws.Emulator
	kubelet  *kubelet.Kubelet
	endpoint net.Listener
	names    *dns.Server
	log      io.Closer
	lock     io.Closer
	kept     []io.Closer // files of the data directory
	journal  io.Writer
	member   *membership // nil: the account is this sandbox's own
	remote   *fault.Set  // the faults of the account that was joined

	stop    context.CancelFunc
	running sync.WaitGroup
	done    chan struct{}
	mu      sync.Mutex
	err     error
	closing bool
	ready   bool // state tells all
}

// Up starts a sandbox and returns when all of it serves. When it fails, or ctx ends before that, nothing is left;
// afterwards ctx means nothing.
func Up(ctx context.Context, c Config) (*Sandbox, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Profile == "" {
		c.Profile = defaultProfile
	}
	if c.Scale == 0 {
		c.Scale = 1
	}
	switch {
	case c.ClusterName != "":
	case c.Join != "":
		c.ClusterName = c.Name
	default:
		c.ClusterName = ClusterName
	}
	if c.Join == "" {
		c.Region, c.AccountID = cmp.Or(c.Region, Region), cmp.Or(c.AccountID, AccountID)
	}
	s := &Sandbox{config: c, done: make(chan struct{}), remote: fault.NewSet()}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Sandbox) start(ctx context.Context) error {
	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.startAccount(ctx); err != nil {
		return err
	}
	if !s.config.OnlyAWS {
		if err := s.startControlPlane(ctx); err != nil {
			return err
		}
		if err := s.startKubelet(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.ready = s.describe(), true
	return s.state.write(s.dir)
}

// startAccount starts an account of its own with its name server, or joins another's.
func (s *Sandbox) startAccount(ctx context.Context) error {
	if s.config.Join != "" {
		if err := s.joinAccount(ctx); err != nil {
			return err
		}
		mapping, err := s.member.mapping()
		s.mapping = mapping
		s.config.Region, s.config.AccountID = s.member.host.Region, s.member.host.AccountID
		return err
	}
	var err error
	if s.vpc, err = s.claim(); err != nil {
		return err
	}
	s.mapping = s.vpc.Mapping
	if err := s.startAWS(); err != nil {
		return err
	}
	return s.startDNS()
}

// prepare makes an empty folder and the log in it. Nothing is touched that belongs to a sandbox which runs.
func (s *Sandbox) prepare() error {
	dir, err := Directory(s.config.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the folder of sandbox %s: %w", s.config.Name, err)
	}
	s.lock, err = lock(dir)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("cannot start sandbox %s: %w; end that one, or choose another --name", s.config.Name, errLocked)
	}
	if err != nil {
		return fmt.Errorf("cannot lock the folder of sandbox %s: %w", s.config.Name, err)
	}
	s.dir = dir
	// What a killed sandbox of this name has left is of no use to this one; up.log belongs to our own start.
	for _, leftover := range []string{"state.json", "controlplane", "sandbox.log"} {
		if err := os.RemoveAll(filepath.Join(dir, leftover)); err != nil {
			return fmt.Errorf("cannot clear the folder of sandbox %s: %w", s.config.Name, err)
		}
	}
	if s.config.Log == nil {
		file, err := os.Create(filepath.Join(dir, "sandbox.log"))
		if err != nil {
			return fmt.Errorf("cannot write the log of sandbox %s: %w", s.config.Name, err)
		}
		s.log, s.config.Log = file, slog.New(slog.NewTextHandler(file, nil))
	}
	return nil
}

func (s *Sandbox) startAWS() error {
	table, err := loadProfile(s.config.Profile)
	if err != nil {
		return err
	}
	var known aws.Identities
	if s.config.Identities != "" {
		if known, err = aws.LoadIdentities(s.config.Identities); err != nil {
			return err
		}
	}
	s.state.AccessKey, s.state.SecretKey = cmp.Or(known.Owner.AccessKeyID, aws.DefaultAccessKeyID), cmp.Or(known.Owner.SecretAccessKey, aws.DefaultSecretAccessKey)
	s.emulator, err = aws.New(aws.Config{
		AccessKeyID: s.state.AccessKey, SecretAccessKey: s.state.SecretKey, Users: known.Users, Roles: known.Roles, Policy: known.Owner.Policy,
		DataDir: s.config.DataDir, JournalLines: s.journal, Rescaled: s.rescale,
		Machines: s.machines, Lives: lives, OpenSecurityGroups: s.config.OpenSecurityGroups,
		VPC: s.mapping, Region: s.config.Region, AccountID: s.config.AccountID, Cluster: s.config.ClusterName,
		Profile: table, Seed: uint64(s.config.Seed), Scale: s.config.Scale, Anonymous: s.config.Anonymous, Log: s.config.Log,
	})
	if err != nil {
		return err
	}
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.AWSPort))
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("cannot serve the emulated AWS at %s (--aws-port): %w", at, err)
	}
	s.endpoint, s.state.AWSEndpoint = listener, "http://"+listener.Addr().String()
	s.running.Go(func() {
		if err := s.emulator.Serve(listener); err != nil {
			s.fail(fmt.Errorf("the emulated AWS ended: %w", err))
		}
	})
	return nil
}

func (s *Sandbox) startDNS() error {
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.DNSPort))
	server, err := dns.Listen(at, dns.Config{
		Account: s.emulator, Region: s.config.Region, VPC: s.emulator.Space(), Seed: uint64(s.config.Seed), Log: s.config.Log,
	})
	if err != nil {
		return fmt.Errorf("%w (--dns-port)", err)
	}
	s.names = server
	s.running.Go(func() {
		if err := server.Serve(); err != nil {
			s.fail(err)
		}
	})
	return nil
}

func (s *Sandbox) startControlPlane(ctx context.Context) error {
	// The control plane would name its own flag.
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.APIPort))
	free, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("cannot serve Kubernetes at %s (--api-port): %w", at, err)
	}
	if err := free.Close(); err != nil {
		return err
	}
	s.control, err = apiserver.Start(ctx, apiserver.Config{Dir: filepath.Join(s.dir, "controlplane"), Port: s.config.APIPort})
	if err != nil {
		return err
	}
	s.running.Go(func() {
		<-s.control.Done()
		if err := s.control.Err(); err != nil {
			s.fail(err)
		}
	})
	s.rest, err = s.control.RESTConfig()
	return err
}

func (s *Sandbox) startKubelet(ctx context.Context) error {
	nodes := max(1, s.config.NodesPerZone)
	var addresses kubelet.Addresses = s.member
	prefix := s.config.ClusterName + "-node" // names tell the nodes of the account's clusters apart
	if s.member == nil {
		addresses, prefix = instances{s.emulator.EC2()}, ""
	}
	k, err := kubelet.New(kubelet.Config{
		API: s.rest, VPC: s.mapping, Addresses: addresses, Zones: zones(s.config.Region), NodesPerZone: nodes, NodePrefix: prefix,
		Scale: s.config.Scale, Seed: uint64(s.config.Seed), Notify: s.config.Notify, Log: s.config.Log, NoCommands: s.config.NoCommands,
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.kubelet = k // faults ask for its nodes from now on
	s.mu.Unlock()
	var life context.Context
	life, s.stop = context.WithCancel(context.Background())
	s.running.Go(func() {
		if err := k.Run(life); err != nil {
			s.fail(fmt.Errorf("the kubelet ended: %w", err))
		}
	})
	select {
	case <-k.Ready():
		s.followMachines(life)
		return nil
	case <-s.done:
		return s.Err()
	case <-ctx.Done():
		return fmt.Errorf("the sandbox was not ready in time: %w", context.Cause(ctx))
	}
}

// followMachines lets nodes go the way of their machines until life ends.
func (s *Sandbox) followMachines(life context.Context) {
	var m *machines
	if s.member != nil {
		m = newMachines(s.kubelet, s.remote, s.member.instance, s.config.Log)
		s.running.Go(func() { s.followAccount(life, m.wake) })
	} else {
		m = newMachines(s.kubelet, s.emulator.Faults(), instances{s.emulator.EC2()}.state, s.config.Log)
		s.emulator.WatchInstances(func(ec2.Machine) { m.wake() })
	}
	s.running.Go(func() { m.follow(life) })
}

// instances give the kubelet's nodes and pods the addresses of the emulated EC2.
type instances struct{ *ec2.Service }

// AddInstance implements kubelet.Addresses.
func (i instances) AddInstance(zone, name string) (string, netip.Addr, error) {
	instance, err := i.Service.AddInstance(zone, name)
	return instance.ID, instance.Address, err
}

func (i instances) state(id string) types.InstanceStateName { return i.MachineByID(id).State }

func zones(region string) []string { return []string{region + "a", region + "b", region + "c"} }

func (s *Sandbox) describe() State {
	kubeconfig := ""
	if s.control != nil {
		kubeconfig = s.control.Kubeconfig()
	}
	if s.member != nil {
		state := s.member.host // endpoint, keys, name server and tempo are those of the account
		state.Name, state.PID, state.StartedAt, state.Joined = s.config.Name, os.Getpid(), time.Now(), s.config.Join
		state.Kubeconfig, state.ClusterName, state.Scale = kubeconfig, s.config.ClusterName, s.config.Scale
		return state
	}
	return State{
		Name: s.config.Name, PID: os.Getpid(), StartedAt: time.Now(),
		Kubeconfig: kubeconfig, AWSEndpoint: s.state.AWSEndpoint, DNS: s.names.Addr(), LowPortsMoved: s.mapping.LowPortsMoved,
		Region: s.config.Region, AccountID: s.config.AccountID, AccessKey: s.state.AccessKey, SecretKey: s.state.SecretKey,
		ClusterName: s.config.ClusterName, VPCID: s.emulator.EC2().VPC(), VPCCIDR: s.mapping.CIDR().String(),
		Profile: s.config.Profile, Scale: s.config.Scale, Seed: s.config.Seed, Protocol: protocol,
	}
}

// State is what other processes are told about the sandbox.
func (s *Sandbox) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// rescale lets the kubelet go by another scale as well, and tells it to who asks for the state.
func (s *Sandbox) rescale(scale float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kubelet != nil {
		s.kubelet.SetScale(scale)
	}
	s.config.Scale = scale
	if !s.ready || s.closing {
		return
	}
	s.state.Scale = scale
	if err := s.state.write(s.dir); err != nil {
		s.config.Log.Error("the state does not tell the new scale", "error", err)
	}
}

func (s *Sandbox) scale() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Scale
}

// Directory is the sandbox's folder; it stays when the sandbox ends, with its logs.
func (s *Sandbox) Directory() string { return s.dir }

// RESTConfig returns a fresh client configuration of the cluster's administrator.
func (s *Sandbox) RESTConfig() *rest.Config { return rest.CopyConfig(s.rest) }

// AWS is the emulated account, for what no AWS API tells; nil if it is another sandbox's.
func (s *Sandbox) AWS() *aws.Emulator { return s.emulator }

// Kubelet runs the cluster's nodes, for what no Kubernetes API does to them.
func (s *Sandbox) Kubelet() *kubelet.Kubelet { return s.kubelet }

// Port is where a port of the VPC's addresses is really served.
func (s *Sandbox) Port(port uint16) uint16 {
	return s.mapping.Real(netip.AddrPortFrom(s.mapping.CIDR().Addr(), port)).Port()
}

// Done is closed when a part of the sandbox has ended by itself; Err says which and why.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Err is why a part of the sandbox ended by itself; nil while all runs, and after a Close.
func (s *Sandbox) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Sandbox) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.err != nil {
		return
	}
	s.err = err
	close(s.done)
}

// Close ends everything that the sandbox started and returns when nothing of it is left: no process and no
// listener. Closing twice does nothing.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	closed := s.closing
	s.closing = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	var problems []error
	if s.stop != nil {
		s.stop()
	}
	if s.control != nil {
		problems = append(problems, s.control.Stop())
	}
	if s.names != nil {
		problems = append(problems, s.names.Close())
	}
	if s.emulator != nil {
		problems = append(problems, s.emulator.Close())
	}
	if s.endpoint != nil {
		_ = s.endpoint.Close() // again, if the emulator had not begun to serve it
	}
	s.running.Wait()
	if s.member != nil {
		problems = append(problems, s.member.leave())
	}
	if s.vpc != nil {
		problems = append(problems, s.vpc.Release())
	}
	if s.dir != "" {
		problems = append(problems, remove(filepath.Join(s.dir, "state.json")))
		// Logs stay for whoever wants to know; 64 MB and more of etcd's data for each run would fill the disk.
		problems = append(problems, os.RemoveAll(filepath.Join(s.dir, "controlplane", "etcd")))
	}
	for _, file := range s.kept {
		problems = append(problems, file.Close())
	}
	if s.log != nil {
		problems = append(problems, s.log.Close())
	}
	if s.lock != nil {
		problems = append(problems, s.lock.Close()) // last: now the name is free
	}
	return errors.Join(problems...)
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
