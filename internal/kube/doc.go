// Package kube is the only door to Kubernetes plumbing: it makes the manager that all controllers run in,
// with caches trimmed to what is needed, holds the leader leases, and serves admission webhooks with
// certificates of its own.
//
// It never decides anything about pods or traffic. Start reading at NewManager; a program uses it like
//
//	m, err := kube.NewManager(ctx, kube.Options{Config: config, Namespace: "lockstep-system", Leases: ...})
//	err = kube.ServeWebhooks(m, kube.WebhookOptions{...}, webhooks)
//	err = m.Start(ctx)
package kube
