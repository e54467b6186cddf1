package binding_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding"
	"github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/firewall"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/kube"
	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/apiserver"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// settle is the settle time in these tests: the emulator's profile ideal has none to wait for.
const settle = 300 * time.Millisecond

// world is a real API server, an emulated AWS with its data plane, and the controller between them. There
// is no kubelet: pods are what the tests make of them.
type world struct {
	*testing.T
	ctx      context.Context
	client   client.Client
	aws      *aws.Emulator
	cloud    *cloud.Cloud
	vpc      *address.VPC
	instance string
	// node is the address of the only node.
	node     netip.Addr
	balancer model.ObservedLoadBalancer
	listener model.ObservedListener
	// group is the security group of the load balancer.
	group string
	// rules counts the rules made, other is a group beside which the rules forward to the tested one.
	rules *int32
	// owner stands for the pods' owner, so that they are not collected.
	owner *corev1.ConfigMap
	other model.ObservedTargetGroup
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{T: t, ctx: ctx, rules: new(int32)}
	cp, err := apiserver.Start(ctx, apiserver.Config{Dir: t.TempDir()})
	w.must(err)
	t.Cleanup(func() { _ = cp.Stop() })
	config, err := cp.RESTConfig()
	w.must(err)

	scheme, err := kube.Scheme()
	w.must(err)
	w.must(apiextensionsv1.AddToScheme(scheme))
	w.client, err = client.New(config, client.Options{Scheme: scheme})
	w.must(err)
	w.install("../../../deploy/crds")
	w.startAWS()

	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := kube.NewManager(ctx, kube.Options{Config: config, Logger: logger, AllowSameNames: true,
		Leases: []types.NamespacedName{{Namespace: "default", Name: kube.LeaseLoadBalancer}, {Namespace: "default", Name: kube.LeaseRollouts}}})
	w.must(err)
	walls := firewall.New(w.cloud, firewall.Settings{Cluster: "lockstep", Settle: settle, Recheck: 100 * time.Millisecond},
		func(ctx context.Context) (map[types.NamespacedName]binding.Networking, error) {
			return binding.Networked(ctx, m.GetAPIReader())
		}, logger)
	w.must(m.Add(walls))
	controller := &binding.Controller{
		Cloud: w.cloud, Evidence: w.cloud.Evidence(kube.Pods{Reader: m.GetClient()}), Firewall: walls, Logger: logger,
		Settings: binding.Settings{Settings: plan.Settings{Settle: settle}, Recheck: time.Second},
	}
	w.must(controller.SetUp(ctx, m))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	w.must(kube.ServeWebhooks(ctx, m, kube.WebhookOptions{Namespace: "default", Listener: listener, Logger: logger}, controller.Webhooks(m.GetScheme())))
	stopped := make(chan error, 1)
	go func() { stopped <- m.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("the manager ended with: %v", err)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually waits for a condition; why tells what is seen instead.
func (w *world) eventually(what string, holds func() (bool, string)) {
	w.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ok, why := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain until %s; instead: %s", what, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) install(dir string) {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	w.must(err)
	if len(files) == 0 {
		w.Fatalf("no CRDs in %s", dir)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		w.must(err)
		crd := &apiextensionsv1.CustomResourceDefinition{}
		w.must(yaml.UnmarshalStrict(content, crd))
		w.must(w.client.Create(w.ctx, crd))
		w.eventually(crd.Name+" is established", func() (bool, string) {
			w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(crd), crd))
			for _, c := range crd.Status.Conditions {
				if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
					return true, ""
				}
			}
			return false, fmt.Sprint(crd.Status.Conditions)
		})
	}
}

// startAWS starts an account that carries traffic, with one load balancer of one listener.
func (w *world) startAWS() {
	w.Helper()
	var err error
	w.vpc, err = address.Claim()
	w.must(err)
	w.Cleanup(func() { _ = w.vpc.Release() })
	w.aws, err = aws.New(aws.Config{VPC: w.vpc.Mapping, Seed: 1, Unthrottled: true, Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	served := make(chan error, 1)
	go func() { served <- w.aws.Serve(l) }()
	w.Cleanup(func() {
		if err := errors.Join(w.aws.Close(), <-served); err != nil {
			w.Error(err)
		}
	})
	endpoint := "http://" + l.Addr().String()
	w.cloud, err = cloud.New(w.ctx, cloud.Config{
		ClusterName: "lockstep", VPCID: w.aws.EC2().VPC(), Region: "eu-west-1",
		Endpoints:   map[string]string{"Elastic Load Balancing v2": endpoint, "EC2": endpoint},
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
		// The account is not throttled, and nobody waits for a token.
		Settings: cloud.Settings{CallMargin: 1000, HealthFast: 100 * time.Millisecond, HealthSlow: time.Second, NetworkTTL: 200 * time.Millisecond, ListInterval: 100 * time.Millisecond},
	})
	w.must(err)
	w.Cleanup(w.cloud.Close)
	instance, err := w.aws.EC2().AddInstance("eu-west-1a", "node-a")
	w.must(err)
	w.instance, w.node = instance.ID, instance.Address
	w.must(w.client.Create(w.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}, Spec: corev1.NodeSpec{ProviderID: "aws:///eu-west-1a/" + instance.ID}}))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}
	before := client.MergeFrom(node.DeepCopy()) // a patch: the control plane writes to nodes too
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: w.node.String()}}
	w.must(w.client.Status().Patch(w.ctx, node, before))
	go w.beat(node.Name)

	w.group, err = w.cloud.CreateSecurityGroup(w.ctx, model.SecurityGroup{Name: "lb", Description: "lb", Tags: map[string]string{model.TagCluster: "lockstep"}})
	w.must(err)
	subnets, err := w.cloud.Subnets(w.ctx)
	w.must(err)
	var ids []string
	for _, s := range subnets {
		if !s.Public {
			ids = append(ids, s.ID)
		}
	}
	w.balancer, err = w.cloud.CreateLoadBalancer(w.ctx, model.LoadBalancer{Name: "web", Scheme: model.Internal, IPAddressType: "ipv4", SubnetIDs: ids,
		Tags: model.TrackingTags("lockstep", "shop/web", "LoadBalancer")}, []string{w.group})
	w.must(err)
	w.listener, err = w.cloud.CreateListener(w.ctx, w.balancer.ARN, model.Listener{Port: 80, Protocol: "HTTP",
		Tags:           model.TrackingTags("lockstep", "shop/web", "80"),
		DefaultActions: []model.Action{{Type: model.ActionFixedResponse, FixedResponse: &model.FixedResponse{StatusCode: "404", ContentType: "text/plain"}}}})
	w.must(err)
	w.other = w.newGroup(model.TargetIP, "other", nil)
}

// beat renews a node's lease, as its kubelet would: the cluster takes a node that does not for lost after 50 s.
func (w *world) beat(node string) {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node, Namespace: corev1.NamespaceNodeLease}}
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: new(int32(40)), RenewTime: new(metav1.NowMicro())}
		if lease.ResourceVersion == "" { // what fails is tried again with the next beat
			_ = w.client.Create(w.ctx, lease)
		} else {
			_ = w.client.Update(w.ctx, lease)
		}
		select {
		case <-w.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// targetGroup makes a target group for a Service, and a rule that gives it a weight of 100.
func (w *world) targetGroup(service string, weight int32) model.ObservedTargetGroup {
	w.Helper()
	return w.groupOf(model.TargetIP, service, weight)
}

func (w *world) groupOf(kind model.TargetType, service string, weight int32) model.ObservedTargetGroup {
	w.Helper()
	group := w.newGroup(kind, service, model.TrackingTags("lockstep", "shop/web", "shop/web-"+service+":80"))
	w.must(w.cloud.ModifyTargetGroupAttributes(w.ctx, group.ARN, map[string]string{"deregistration_delay.timeout_seconds": "1"}))
	*w.rules++
	_, err := w.cloud.CreateRule(w.ctx, w.listener.ARN, model.Rule{
		Priority: *w.rules, Conditions: []model.Condition{{Field: "path-pattern", Values: []string{"/" + service}}},
		Actions: []model.Action{{Type: model.ActionForward, Forward: &model.Forward{TargetGroups: []model.WeightedTargetGroup{
			{ARN: group.ARN, Weight: weight}, {ARN: w.other.ARN, Weight: 100 - weight}}}}},
		Tags: model.TrackingTags("lockstep", "shop/web", fmt.Sprintf("80:%d", *w.rules)),
	})
	w.must(err)
	return group
}

func (w *world) newGroup(kind model.TargetType, name string, tags map[string]string) model.ObservedTargetGroup {
	w.Helper()
	group, err := w.cloud.CreateTargetGroup(w.ctx, model.TargetGroup{
		Name: name, TargetType: kind, Port: 8080, Protocol: "HTTP", ProtocolVersion: "HTTP1", IPAddressType: "ipv4", Tags: tags,
		HealthCheck: model.HealthCheck{Protocol: "HTTP", Port: "traffic-port", Path: "/", Interval: 5 * time.Second, Timeout: 2 * time.Second,
			HealthyThreshold: 2, UnhealthyThreshold: 2, HTTPCodes: "200"},
	})
	w.must(err)
	return group
}

// namespace makes a namespace whose pods get readiness gates, and waits until pods can be made in it.
func (w *world) namespace(name string) {
	w.Helper()
	w.must(w.client.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name,
		Labels: map[string]string{elbv2.LabelReadinessGateInject: "enabled"}}}))
	w.eventually("namespace "+name+" has its service account", func() (bool, string) {
		err := w.client.Get(w.ctx, types.NamespacedName{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, fmt.Sprint(err)
	})
	w.owner = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "owner"}}
	w.must(w.client.Create(w.ctx, w.owner))
}

func (w *world) service(namespace, name string, selector map[string]string) *corev1.Service {
	w.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{
		Selector: selector, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}}}}
	w.must(w.client.Create(w.ctx, s))
	return s
}

// point changes a Service's selector.
func (w *world) point(s *corev1.Service, selector map[string]string) {
	w.Helper()
	before := s.DeepCopy()
	s.Spec.Selector = selector
	w.must(w.client.Patch(w.ctx, s, client.MergeFrom(before)))
}

// bind makes a binding of a target group to a Service, of the stack shop/web.
func (w *world) bind(namespace, service, arn string) *elbv2.TargetGroupBinding {
	w.Helper()
	b := &elbv2.TargetGroupBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service, Labels: map[string]string{
			"ingress.k8s.aws/stack-namespace": "shop", "ingress.k8s.aws/stack-name": "web"}},
		Spec: elbv2.TargetGroupBindingSpec{
			TargetGroupARN: arn, ServiceRef: elbv2.ServiceReference{Name: service, Port: intstr.FromInt32(80)},
			Networking: &elbv2.TargetGroupBindingNetworking{Ingress: []elbv2.NetworkingIngressRule{{
				From:  []elbv2.NetworkingPeer{{SecurityGroup: &elbv2.SecurityGroup{GroupID: w.group}}},
				Ports: []elbv2.NetworkingPort{{Port: new(intstr.FromString("http"))}},
			}}},
		},
	}
	// The webhook may not be served yet.
	w.eventually("the binding is admitted", func() (bool, string) {
		err := w.client.Create(w.ctx, b)
		if err != nil && !strings.Contains(err.Error(), "failed calling webhook") {
			w.Fatal(err)
		}
		return err == nil, fmt.Sprint(err)
	})
	return b
}

// pod makes a pod whose containers are ready, and serves its address.
func (w *world) pod(namespace, name string, labels map[string]string) *corev1.Pod {
	w.Helper()
	p := w.admitted(namespace, name, labels)
	w.run(p)
	return p
}

// admitted makes a pod that has not been started.
func (w *world) admitted(namespace, name string, labels map[string]string) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "ConfigMap", Name: w.owner.Name, UID: w.owner.UID, Controller: new(true)}}},
		Spec: corev1.PodSpec{NodeName: "node-a", Containers: []corev1.Container{{Name: "app", Image: "app",
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
	}
	w.must(w.client.Create(w.ctx, p))
	return p
}

// run gives a pod an address that answers, and ready containers.
func (w *world) run(p *corev1.Pod) {
	w.Helper()
	a, err := w.aws.EC2().AssignPodAddress(w.instance)
	w.must(err)
	w.serve(netip.AddrPortFrom(a, 8080))
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, a.String(), []corev1.PodIP{{IP: a.String()}}
	p.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: ready(p)},
	}
	w.must(w.client.Status().Update(w.ctx, p))
}

// serve answers at an address of the VPC.
func (w *world) serve(at netip.AddrPort) {
	w.Helper()
	l, err := net.Listen("tcp", w.vpc.Real(at).String())
	w.must(err)
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "ok") })}
	go func() { _ = server.Serve(l) }()
	w.Cleanup(func() { _ = server.Close() })
}

// ready is what a kubelet would say of a pod whose containers are ready.
func ready(p *corev1.Pod) corev1.ConditionStatus {
	if len(p.Spec.ReadinessGates) > 0 {
		return corev1.ConditionFalse
	}
	return corev1.ConditionTrue
}

// states are the states of a group's targets by address, at most half a second old: AWS limits the calls of
// the controller and of this test together.
func (w *world) states(arn string) map[string]string {
	w.Helper()
	health, _, err := w.cloud.TargetHealth(w.ctx, arn, time.Now().Add(-500*time.Millisecond))
	w.must(err)
	states := map[string]string{}
	for _, t := range health {
		states[t.ID] = t.State
	}
	return states
}

func (w *world) becomes(arn string, p *corev1.Pod, state string) {
	w.Helper()
	w.eventually(fmt.Sprintf("the target of pod %s is %q", p.Name, state), func() (bool, string) {
		got := w.states(arn)
		return got[p.Status.PodIP] == state, fmt.Sprint(got)
	})
}

// gate is the condition that answers a pod's readiness gate.
func (w *world) gate(p *corev1.Pod, b *elbv2.TargetGroupBinding) corev1.PodCondition {
	w.Helper()
	now := &corev1.Pod{}
	w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), now))
	for _, c := range now.Status.Conditions {
		if c.Type == elbv2.ReadinessGate(b.Name) {
			return c
		}
	}
	return corev1.PodCondition{}
}

func (w *world) opens(p *corev1.Pod, b *elbv2.TargetGroupBinding) {
	w.Helper()
	w.eventually("the gate of pod "+p.Name+" opens", func() (bool, string) {
		c := w.gate(p, b)
		return c.Status == corev1.ConditionTrue, fmt.Sprint(c)
	})
}

// told waits for an event about a binding.
func (w *world) told(b *elbv2.TargetGroupBinding, reason string) {
	w.Helper()
	w.eventually("event "+reason, func() (bool, string) {
		var list corev1.EventList
		w.must(w.client.List(w.ctx, &list, client.InNamespace(b.Namespace)))
		var seen []string
		for _, e := range list.Items {
			if e.InvolvedObject.Name == b.Name && e.Reason == reason {
				return true, ""
			}
			seen = append(seen, e.Reason+": "+e.Message)
		}
		return false, strings.Join(seen, "\n")
	})
}

func (w *world) gone(o client.Object) {
	w.Helper()
	w.eventually(o.GetName()+" is gone", func() (bool, string) {
		err := w.client.Get(w.ctx, client.ObjectKeyFromObject(o), o)
		return apierrors.IsNotFound(err), fmt.Sprint(err)
	})
}
