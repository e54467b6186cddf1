package controller

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// serveWebhooks serves the webhooks where the API server can reach them, and tells it so. Without webhooks it
// takes back those that a crashed process has left.
func (o *options) serveWebhooks(ctx context.Context, p *program, config *rest.Config, webhooks []kube.Webhook, logger *slog.Logger) error {
	logger = logger.With("part", "webhooks")
	if len(webhooks) == 0 {
		if err := kube.WithdrawAbandonedWebhooks(ctx, config, logger); err != nil {
			logger.Warn("it is not known whether webhooks that nobody answers are registered", "error", err)
		}
		return nil
	}
	service, err := o.webhooksBehind(ctx, config, inCluster(config))
	if err != nil {
		return err
	}
	if service == nil && !onThisMachine(config.Host) {
		logger.Warn("no webhooks are registered, so pods get no readiness gates: the API server cannot reach 127.0.0.1 here; run the controller in the cluster, or set --webhook-service",
			"server", config.Host)
		return nil
	}
	host := "127.0.0.1"
	if service != nil {
		host = ""
	}
	at := net.JoinHostPort(host, strconv.Itoa(o.webhookPort))
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("cannot serve webhooks at %s (--webhook-bind-port): %w", at, err)
	}
	p.webhooks = listener.Addr().String()
	return kube.ServeWebhooks(ctx, p.manager, kube.WebhookOptions{
		Namespace: namespace(), Listener: listener, Service: service, Logger: logger,
	}, webhooks)
}

// within has webhooks leave alone what is outside the one namespace that is worked on (all when it is empty):
// nothing is known of it, so that all of it would be refused. The handlers look too, since a configuration that
// is taken over keeps its selectors.
func within(namespace string, webhooks []kube.Webhook) []kube.Webhook {
	if namespace == "" {
		return webhooks
	}
	for i := range webhooks {
		w := &webhooks[i]
		selector := &metav1.LabelSelector{}
		if w.NamespaceSelector != nil {
			selector = w.NamespaceSelector.DeepCopy()
		}
		selector.MatchExpressions = append(selector.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: []string{namespace}})
		handler := w.Handler
		w.NamespaceSelector, w.Handler = selector, admission.HandlerFunc(func(ctx context.Context, r admission.Request) admission.Response {
			if r.Namespace != "" && r.Namespace != namespace {
				return admission.Allowed("")
			}
			return handler.Handle(ctx, r)
		})
	}
	return webhooks
}

// webhooksBehind is the Service through which the API server reaches the webhooks: the one that is named, in
// the cluster (inside) else the one that has a known name, and nil outside.
func (o *options) webhooksBehind(ctx context.Context, config *rest.Config, inside bool) (*kube.ServicePort, error) {
	service, err := o.service()
	if err != nil || service != nil || !inside {
		return service, err
	}
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, err
	}
	reader, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("cannot reach the API server %s: %w", config.Host, err)
	}
	if service, err = kube.FindWebhookService(ctx, reader, namespace()); err != nil {
		return nil, fmt.Errorf("cannot tell the API server where the webhooks are: %w: create it, or set --webhook-service to namespace/name:port", err)
	}
	return service, nil
}

// inCluster says that the API server is that of the cluster in which this process is a pod. A pod can also work
// on another cluster.
func inCluster(config *rest.Config) bool {
	own, err := rest.InClusterConfig()
	return err == nil && own.Host == config.Host
}

// onThisMachine says that an API server shares the loopback addresses of this process.
func onThisMachine(server string) bool {
	if !strings.Contains(server, "://") { // client-go takes a host and port alone too
		server = "https://" + server
	}
	at, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(at.Hostname())
	return at.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}
