package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// answerWithin is how long a webhook server may take to accept a connection.
const answerWithin = 3 * time.Second

// WithdrawAbandonedWebhooks takes back webhooks that a process which no longer answers has registered, as after
// a crash, for a process that serves none itself.
func WithdrawAbandonedWebhooks(ctx context.Context, config *rest.Config, logger *slog.Logger) error {
	scheme, err := Scheme()
	if err != nil {
		return err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("cannot make a client for the webhook configurations: %w", err)
	}
	served := false // any of them; what has been emptied is part of the same
	return eachWritten(ctx, c, func(u *unstructured.Unstructured) (bool, error) {
		if !emptied(u) {
			alive, err := anyAnswered(ctx, c, u)
			served = served || alive || err != nil
			if alive || err != nil {
				return false, err
			}
		} else if served {
			return false, nil
		}
		logger.Warn("webhooks that nobody answers are withdrawn", "kind", u.GetKind(), "configuration", u.GetName())
		return true, nil
	})
}

// anyAnswered reports whether somebody answers any of a configuration's webhooks that are ours or have been taken over.
func anyAnswered(ctx context.Context, c client.Client, u *unstructured.Unstructured) (bool, error) {
	for _, entry := range webhooksOf(u) {
		if u.GetName() != WebhookConfiguration && !strings.HasSuffix(nameOf(entry), ourDomain) {
			continue
		}
		if alive, err := answered(ctx, c, addressOf(entry)); alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

// answered reports whether somebody is there to answer a webhook: a replica behind its Service, or at its URL a
// server that the API server trusts. One that takes long may only be starting.
func answered(ctx context.Context, c client.Client, to admissionv1.WebhookClientConfig) (bool, error) {
	if to.Service != nil {
		behind, err := endpoints(ctx, c, to.Service.Namespace, to.Service.Name)
		return len(behind) > 0, err
	}
	if to.URL == nil {
		return false, nil
	}
	at, err := url.Parse(*to.URL)
	if err != nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	plain, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return false, nil
	}
	defer plain.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(to.CABundle)
	err = tls.Client(plain, &tls.Config{RootCAs: roots, ServerName: at.Hostname()}).HandshakeContext(ctx)
	_, stranger := errors.AsType[*tls.CertificateVerificationError](err)
	_, other := errors.AsType[tls.RecordHeaderError](err)
	return !stranger && !other, nil
}
