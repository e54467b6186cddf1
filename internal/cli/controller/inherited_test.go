package controller

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/cli"
)

// parsed are the options of a command line, and what is told about it.
func parsed(t *testing.T, args ...string) (options, []string) {
	t.Helper()
	var o options
	cmd := New(cli.Streams{})
	cmd.ResetFlags()
	o.bind(cmd)
	if err := cmd.ParseFlags(append([]string{"--cluster-name=shop", "--aws-vpc-id=vpc-1"}, args...)); err != nil {
		t.Fatal(err)
	}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o.warn(cmd.Flags(), slog.New(slog.NewJSONHandler(&log, nil)))
	told := []string{}
	for decoder := json.NewDecoder(&log); decoder.More(); {
		var line map[string]any
		if err := decoder.Decode(&line); err != nil {
			t.Fatal(err)
		}
		gate, _ := line["gate"].(string)
		told = append(told, strings.TrimSpace(line["flag"].(string)+" "+gate))
	}
	return o, told
}

// Every flag of the controller whose place is taken starts this one too.
func TestTheArgumentsOfAnExistingDeploymentAreAccepted(t *testing.T) {
	_, told := parsed(t,
		"--default-tags=a=b", "--external-managed-tags=c,d", "--default-target-type=ip", "--default-load-balancer-scheme=internet-facing",
		"--default-ssl-policy=ELBSecurityPolicy-TLS13-1-2-2021-06", "--service-target-eni-security-group-tags=x=y", "--enable-backend-security-group=true",
		"--backend-security-group=sg-1", "--enable-manage-backend-security-group-rules=true", "--disable-restricted-sg-rules=true",
		"--enable-endpoint-slices=true", "--max-targets-per-target-group=0", "--targetgroupbinding-requeue-duration=15s",
		"--lb-stabilization-monitor-interval=2m", "--ingress-max-concurrent-reconciles=3", "--service-max-concurrent-reconciles=3",
		"--targetgroupbinding-max-concurrent-reconciles=3", "--gateway-class-max-concurrent-reconciles=3", "--alb-gateway-max-concurrent-reconciles=3",
		"--nlb-gateway-max-concurrent-reconciles=3", "--globalaccelerator-max-concurrent-reconciles=1",
		"--globalaccelerator-max-exponential-backoff-delay=16m40s", "--targetgroupbinding-max-exponential-backoff-delay=16m40s",
		"--required-secrets-label=a", "--feature-gates=EnableDefaultTagsLowPriority=true,ListenerRulesTagging=true,ALBSingleSubnet=true,FromTheFuture=false",
		"--sync-period=1h", "--ingress-class=alb", "--load-balancer-class=service.k8s.aws/nlb", "--disable-ingress-class-annotation=true",
		"--disable-ingress-group-name-annotation=true", "--tolerate-non-existent-backend-service=false", "--tolerate-non-existent-backend-action=false",
		"--allowed-certificate-authority-arns=arn", "--default-pca-arn=arn", "--enable-waf=true", "--enable-wafv2=false", "--enable-shield=true",
		"--enable-pod-readiness-gate-inject=true", "--quic-environment-variable-name=X", "--watch-namespace=shop", "--aws-region=eu-west-1",
		"--aws-vpc-tags=a=b", "--aws-vpc-tag-key=Name", "--aws-api-endpoints=EC2=https://ec2.example.com,STS=https://sts.example.com",
		"--aws-api-throttle=WAFV2:^Get=1:1", "--aws-max-retries=10", "--kubeconfig=", "--metrics-bind-addr=:8080", "--health-probe-bind-addr=:61779",
		"--webhook-bind-port=9443", "--webhook-cert-dir=/certs", "--webhook-cert-file=a", "--webhook-key-file=b", "--kube-ca-pem-filepath=/ca",
		"--enable-leader-election=true", "--leader-election-id=mine", "--leader-election-namespace=kube-system", "--log-level=debug",
	)
	want := []string{
		"--allowed-certificate-authority-arns", "--aws-api-throttle", "--aws-max-retries", "--default-pca-arn", "--disable-restricted-sg-rules",
		"--enable-shield", "--enable-waf", "--alb-gateway-max-concurrent-reconciles", "--nlb-gateway-max-concurrent-reconciles",
		"--gateway-class-max-concurrent-reconciles", "--globalaccelerator-max-concurrent-reconciles", "--globalaccelerator-max-exponential-backoff-delay",
		"--kube-ca-pem-filepath", "--lb-stabilization-monitor-interval", "--load-balancer-class", "--quic-environment-variable-name",
		"--required-secrets-label", "--service-max-concurrent-reconciles", "--service-target-eni-security-group-tags",
		"--targetgroupbinding-max-exponential-backoff-delay", "--webhook-cert-dir", "--webhook-cert-file", "--webhook-key-file",
		"--feature-gates ALBSingleSubnet", "--feature-gates FromTheFuture",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told to have no effect (-want +got):\n%s", diff)
	}
	if _, told := parsed(t); len(told) > 0 {
		t.Errorf("without such flags it tells of %v", told)
	}
}

func TestFlagsReachTheTranslation(t *testing.T) {
	o, _ := parsed(t)
	if diff := cmp.Diff(ingress.Settings{Cluster: "shop", IngressClass: "alb", DefaultTargetType: "instance", DefaultScheme: "internal", DefaultSSLPolicy: "ELBSecurityPolicy-2016-08", DefaultTags: o.defaultTags}, o.ingressSettings()); diff != "" {
		t.Errorf("by default (-want +got):\n%s", diff)
	}
	o, _ = parsed(t, "--default-ssl-policy=P", "--default-tags=a=b", "--external-managed-tags=c", "--backend-security-group=sg-1", "--enable-backend-security-group=false",
		"--enable-manage-backend-security-group-rules", "--tolerate-non-existent-backend-service=false", "--tolerate-non-existent-backend-action=false",
		"--feature-gates=EnableDefaultTagsLowPriority=true", "--ingress-class=", "--default-target-type=ip", "--default-load-balancer-scheme=internet-facing")
	want := ingress.Settings{
		Cluster: "shop", IngressClass: ingress.NoClass, DefaultTargetType: "ip", DefaultScheme: "internet-facing", DefaultSSLPolicy: "P",
		DefaultTags: map[string]string{"a": "b"}, DefaultTagsLowPriority: true, ExternalTags: []string{"c"}, BackendSecurityGroup: "sg-1",
		NoBackendSecurityGroup: true, ManageBackendRules: true, StrictServices: true, StrictActions: true,
	}
	if diff := cmp.Diff(want, o.ingressSettings()); diff != "" {
		t.Errorf("as asked for (-want +got):\n%s", diff)
	}
}

func TestGatesInForceAreNotThoseWithAnEffect(t *testing.T) {
	if slices.Contains(slices.Collect(maps.Keys(gatesInForce)), gateTagsLow) {
		t.Errorf("%s has an effect and is told to have none", gateTagsLow)
	}
}

// Whoever could write a tag by which resources are known could make them strangers.
func TestTagsOfOwnershipAreNobodyElses(t *testing.T) {
	for _, key := range []string{"elbv2.k8s.aws/cluster", "ingress.k8s.aws/cluster", "ingress.k8s.aws/stack"} {
		for _, flag := range []string{"--external-managed-tags=" + key, "--default-tags=" + key + "=other"} {
			var o options
			cmd := New(cli.Streams{})
			cmd.ResetFlags()
			o.bind(cmd)
			if err := cmd.ParseFlags([]string{"--cluster-name=shop", "--aws-vpc-id=vpc-1", flag}); err != nil {
				t.Fatal(err)
			}
			if err := o.validate(); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v", flag, err)
			}
		}
	}
}
