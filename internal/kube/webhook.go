package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// CertificateSecret is the Secret, in the controller's namespace, that the replicas share.
const CertificateSecret = "lockstep-webhook-tls"

// certificateCheck is how often the certificates and the configurations are looked at.
const certificateCheck = 5 * time.Minute

// stopWithin bounds the end of the server: taking the webhooks back and answering what is under way.
const stopWithin = 10 * time.Second

// Webhook is one admission webhook.
type Webhook struct {
	// Name is fully qualified, Path begins with a slash.
	Name, Path string
	Mutating   bool
	Rules      []admissionv1.RuleWithOperations
	// FailurePolicy is what the API server does when the webhook does not answer.
	FailurePolicy     admissionv1.FailurePolicyType
	NamespaceSelector *metav1.LabelSelector
	ObjectSelector    *metav1.LabelSelector
	Handler           admission.Handler
}

// WebhookOptions say where the webhooks are served and how the API server reaches them.
type WebhookOptions struct {
	// Namespace is the controller's; the certificate Secret lives there.
	Namespace string
	// Listener serves the webhooks; its address is what a URL names.
	Listener net.Listener
	// Service, when set, is how the API server reaches the webhooks (in the cluster); otherwise it is the
	// listener's address (outside).
	Service *ServicePort
	Logger  *slog.Logger
}

// ServicePort names a port of a Service.
type ServicePort struct {
	Namespace, Name string
	Port            int32
}

// ServeWebhooks adds a server of the webhooks to the manager. Every replica serves; the certificates are made
// and the API server is told about the webhooks before any controller starts, since pods that are created
// without their gates never get them.
func ServeWebhooks(ctx context.Context, m manager.Manager, o WebhookOptions, webhooks []Webhook) error {
	direct, err := client.New(m.GetConfig(), client.Options{Scheme: m.GetScheme(), Mapper: m.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("cannot make a client for the webhook configurations: %w", err)
	}
	s := &webhookServer{options: o, webhooks: webhooks, client: direct, elected: m.Elected(), adopted: func() {}}
	if o, ok := m.(*ordered); ok {
		s.adopted = o.webhooks.announce()
	}
	if s.options.Logger == nil {
		s.options.Logger = slog.New(slog.DiscardHandler)
	}
	if err := s.renew(ctx); err != nil {
		return err
	}
	if err := m.AddReadyzCheck("webhooks", func(*http.Request) error {
		if !s.serving.Load() {
			return errors.New("the webhook server has not started")
		}
		return nil
	}); err != nil {
		return fmt.Errorf("cannot add the readiness check of the webhooks: %w", err)
	}
	return m.Add(s)
}

type webhookServer struct {
	options  WebhookOptions
	webhooks []Webhook
	client   client.Client
	elected  <-chan struct{}
	// adopted lets the controllers begin.
	adopted     func()
	certificate atomic.Pointer[tls.Certificate]
	serving     atomic.Bool
}

// NeedLeaderElection is false: all replicas serve.
func (s *webhookServer) NeedLeaderElection() bool { return false }

// Start serves until the context ends, and tells the API server where, first.
func (s *webhookServer) Start(ctx context.Context) error {
	mux := http.NewServeMux()
	for _, w := range s.webhooks {
		handler, err := admission.StandaloneWebhook(&admission.Webhook{Handler: w.counted()}, admission.StandaloneOptions{MetricsPath: w.Path})
		if err != nil {
			return fmt.Errorf("cannot serve the webhook %s: %w", w.Name, err)
		}
		mux.Handle(w.Path, handler)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second, TLSConfig: &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate.Load(), nil },
	}}
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(s.options.Listener, "", "") }()
	s.serving.Store(true)
	ticker := time.NewTicker(certificateCheck)
	defer ticker.Stop()
	elected := s.elected
	for {
		select {
		case <-ctx.Done():
			s.serving.Store(false)
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
			defer cancel()
			if err := s.withdraw(stop); err != nil {
				s.options.Logger.Warn("the webhooks stay registered", "error", err)
			}
			return server.Shutdown(stop)
		case <-elected:
			elected = nil
			if err := s.renew(ctx); err != nil {
				s.options.Logger.Warn("the webhooks of the former controller are not taken over yet", "error", err)
				ticker.Reset(time.Second)
			}
		case err := <-failed:
			return fmt.Errorf("cannot serve webhooks on %s: %w", s.options.Listener.Addr(), err)
		case <-ticker.C:
			if err := s.renew(ctx); err != nil {
				s.options.Logger.Warn("webhook certificates are not checked", "error", err)
				continue
			}
			ticker.Reset(certificateCheck)
		}
	}
}

// renew makes the certificates valid, takes them up, and puts the authority into the configurations.
func (s *webhookServer) renew(ctx context.Context) error {
	data, err := s.secret(ctx)
	if err != nil {
		return err
	}
	certificate, err := servingCertificate(data)
	if err != nil {
		return err
	}
	s.certificate.Store(certificate)
	leads := s.leads()
	if err := s.register(ctx, data[keyAuthority]); err != nil {
		return err
	}
	if leads {
		s.adopted()
	}
	return nil
}

// secret reads the certificates' Secret, and creates or renews it. When another replica was faster, its
// certificates are used.
func (s *webhookServer) secret(ctx context.Context) (map[string][]byte, error) {
	hosts := s.hosts()
	key := types.NamespacedName{Namespace: s.options.Namespace, Name: CertificateSecret}
	for {
		var secret corev1.Secret
		err := s.client.Get(ctx, key, &secret)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("cannot read the webhook certificates in Secret %s: %w", key, err)
		}
		missing := err != nil
		data, changed, err := renewed(secret.Data, hosts, time.Now())
		if err != nil {
			return nil, fmt.Errorf("cannot make webhook certificates: %w", err)
		}
		if !changed {
			return data, nil
		}
		secret.Data = data
		if missing {
			secret.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
			secret.Type = corev1.SecretTypeTLS
			err = s.client.Create(ctx, &secret)
		} else {
			err = s.client.Update(ctx, &secret)
		}
		switch {
		case err == nil:
			return data, nil
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
			continue
		}
		return nil, fmt.Errorf("cannot write the webhook certificates to Secret %s: %w", key, err)
	}
}

// hosts are the names by which the API server may reach this replica.
func (s *webhookServer) hosts() []string {
	if svc := s.options.Service; svc != nil {
		name := svc.Name + "." + svc.Namespace
		return []string{name + ".svc", name + ".svc.cluster.local", name}
	}
	host, _, err := net.SplitHostPort(s.options.Listener.Addr().String())
	if err != nil {
		return []string{"localhost"}
	}
	return []string{host}
}

func (s *webhookServer) clientConfig(w Webhook, authority []byte) admissionv1.WebhookClientConfig {
	to := admissionv1.WebhookClientConfig{CABundle: authority}
	if svc := s.options.Service; svc != nil {
		to.Service = &admissionv1.ServiceReference{Namespace: svc.Namespace, Name: svc.Name, Path: &w.Path, Port: &svc.Port}
	} else {
		to.URL = new("https://" + s.options.Listener.Addr().String() + w.Path)
	}
	return to
}
