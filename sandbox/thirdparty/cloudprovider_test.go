package thirdparty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestCloudProvider lets the service controller of cloud-provider-aws give a Service a Network Load Balancer: with the
// nodes as targets and their security group opened, requests go through; a second port becomes a second listener;
// and nothing is left when the Service is gone.
func TestCloudProvider(t *testing.T) {
	w := newWorld(t)
	program := build(t, "cloud-provider-aws", "k8s.io/cloud-provider-aws/cmd/aws-cloud-controller-manager")
	// A cluster whose controllers run outside of AWS must say where it is, with a subnet that is not looked at.
	config := filepath.Join(t.TempDir(), "cloud.conf")
	content := fmt.Sprintf("[Global]\nRegion=%s\nVPC=%s\nSubnetID=elsewhere\nKubernetesClusterID=%s\n", w.state.Region, w.state.VPCID, w.state.ClusterName)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	controller := w.start(t, "cloud-provider-aws", program, "--cloud-provider=aws", "--cloud-config="+config, "--kubeconfig="+w.state.Kubeconfig,
		"--controllers=service-lb-controller", "--cluster-name="+w.state.ClusterName, "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port="+freePort(t))
	before := w.nodeRules(t)
	data, err := os.ReadFile("testdata/edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const onePort = "ports: [{name: http, port: 80, targetPort: 8080}]"
	manifests := string(data)
	w.kube.apply(t, manifests)
	w.playProxy(t, "edge", "edge")

	host := ""
	eventually(t, "the Service to get its load balancer", func() error {
		var err error
		host, err = w.kube.address(serviceKind, "edge", "edge")
		return err
	}, controller)
	eventually(t, host+" to lead to the application", func() error {
		version, err := w.version(host)
		if err == nil && version != "v1" {
			err = fmt.Errorf("version %q answers", version)
		}
		return err
	}, controller)
	balancer := w.balancer(t, host)
	if balancer.Type != types.LoadBalancerTypeEnumNetwork {
		t.Errorf("%s is of type %s", host, balancer.Type)
	}
	if healthy := w.healthyTargets(t, *balancer.LoadBalancerArn); healthy == 0 {
		t.Error("requests went through, yet no target is healthy")
	}

	w.kube.apply(t, strings.Replace(manifests, onePort, "ports: [{name: http, port: 80, targetPort: 8080}, {name: more, port: 81, targetPort: 8080}]", 1))
	eventually(t, "a second listener", func() error {
		listeners, err := w.elbv2.DescribeListeners(context.Background(), &elasticloadbalancingv2.DescribeListenersInput{LoadBalancerArn: balancer.LoadBalancerArn})
		if err == nil && len(listeners.Listeners) != 2 {
			err = fmt.Errorf("%w: there are %d", errNotYet, len(listeners.Listeners))
		}
		return err
	}, controller)

	w.kube.remove(t, serviceKind, "edge", "edge", controller)
	_, err = w.elbv2.DescribeLoadBalancers(context.Background(), &elasticloadbalancingv2.DescribeLoadBalancersInput{LoadBalancerArns: []string{*balancer.LoadBalancerArn}})
	if gone := (*types.LoadBalancerNotFoundException)(nil); !errors.As(err, &gone) {
		t.Errorf("the load balancer is still there: %v", err)
	}
	groups, err := w.elbv2.DescribeTargetGroups(context.Background(), &elasticloadbalancingv2.DescribeTargetGroupsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.TargetGroups {
		if strings.HasPrefix(*g.TargetGroupName, "k8s-edge-") {
			t.Errorf("target group %s is left", *g.TargetGroupName)
		}
	}
	if after := w.nodeRules(t); after != before {
		t.Errorf("the nodes' security groups have %d rules, and had %d before", after, before)
	}
	w.checkCalls(t, "cloud-provider-aws", []string{"DescribeInstances", "DescribeSubnets", "DescribeRouteTables", "CreateLoadBalancer", "CreateTargetGroup",
		"RegisterTargets", "CreateListener", "ModifyTargetGroupAttributes", "DescribeTargetHealth", "AuthorizeSecurityGroupIngress",
		"DeleteLoadBalancer", "DeleteTargetGroup", "RevokeSecurityGroupIngress"}, "LoadBalancerNotFound", "Throttling")
}

// balancer is the load balancer with this DNS name.
func (w *world) balancer(t *testing.T, host string) types.LoadBalancer {
	t.Helper()
	all, err := w.elbv2.DescribeLoadBalancers(context.Background(), &elasticloadbalancingv2.DescribeLoadBalancersInput{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.LoadBalancers, func(b types.LoadBalancer) bool { return *b.DNSName == host })
	if i < 0 {
		t.Fatalf("AWS knows no load balancer %s", host)
	}
	return all.LoadBalancers[i]
}

// healthyTargets counts the healthy targets of a load balancer.
func (w *world) healthyTargets(t *testing.T, balancer string) int {
	t.Helper()
	groups, err := w.elbv2.DescribeTargetGroups(context.Background(), &elasticloadbalancingv2.DescribeTargetGroupsInput{LoadBalancerArn: &balancer})
	if err != nil {
		t.Fatal(err)
	}
	healthy := 0
	for _, g := range groups.TargetGroups {
		health, err := w.elbv2.DescribeTargetHealth(context.Background(), &elasticloadbalancingv2.DescribeTargetHealthInput{TargetGroupArn: g.TargetGroupArn})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range health.TargetHealthDescriptions {
			if d.TargetHealth.State == types.TargetHealthStateEnumHealthy {
				healthy++
			}
		}
	}
	return healthy
}

// nodeRules counts the ingress rules of the cluster's security groups.
func (w *world) nodeRules(t *testing.T) int {
	t.Helper()
	tag := "tag:kubernetes.io/cluster/" + w.state.ClusterName
	groups, err := w.ec2.DescribeSecurityGroups(context.Background(), &ec2.DescribeSecurityGroupsInput{Filters: []ec2types.Filter{{Name: &tag, Values: []string{"owned"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(groups.SecurityGroups) == 0 {
		t.Fatal("no security group belongs to the cluster")
	}
	rules := 0
	for _, g := range groups.SecurityGroups {
		for _, p := range g.IpPermissions {
			rules += len(p.IpRanges) + len(p.UserIdGroupPairs)
		}
	}
	return rules
}

// playProxy does on every node what kube-proxy does: the node port of a Service leads to its only pod, on which both are
// named alike. The nodes' ExternalIPs are where their ports are served, and pods are reached the same way.
func (w *world) playProxy(t *testing.T, namespace, name string) {
	t.Helper()
	service, err := w.kube.get(serviceKind, namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	ports, _, _ := unstructured.NestedSlice(service.Object, "spec", "ports")
	port := fmt.Sprint(ports[0].(map[string]any)["nodePort"])
	pod := ""
	eventually(t, "the pod to run", func() error {
		object, err := w.kube.get(schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, namespace, name)
		if err != nil {
			return err
		}
		address, _, _ := unstructured.NestedString(object.Object, "status", "podIP")
		phase, _, _ := unstructured.NestedString(object.Object, "status", "phase")
		ip := net.ParseIP(address).To4()
		if phase != "Running" || ip == nil {
			return fmt.Errorf("%w: phase %q, address %q", errNotYet, phase, address)
		}
		ip[0] = 127 // 10.k.b.c is served at 127.k.b.c
		pod = net.JoinHostPort(ip.String(), "8080")
		return nil
	})
	resource, err := w.kube.resource(schema.GroupVersionKind{Version: "v1", Kind: "Node"}, "")
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := resource.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		addresses, _, _ := unstructured.NestedSlice(n.Object, "status", "addresses")
		for _, a := range addresses {
			if a := a.(map[string]any); a["type"] == "ExternalIP" {
				relay(t, net.JoinHostPort(a["address"].(string), port), pod)
			}
		}
	}
}

// relay lets connections to an address reach another one until the test ends.
func relay(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatalf("cannot serve the node port: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer server.Close()
				go func() {
					_, _ = io.Copy(server, client)
					_ = server.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(client, server)
			}()
		}
	}()
}
