package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/lockstep-delivery/lockstep/sandbox/controlplane/credentials"
)

// apiServer is a kube-apiserver that has not been started.
type apiServer struct {
	options *options.ServerRunOptions
}

// newAPIServer prepares kube-apiserver to serve on listener. Admission plugins and APIs are the defaults of a
// real cluster.
func newAPIServer(listener net.Listener, serviceRange string, creds credentials.Credentials) (apiServer, error) {
	o := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range o.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	err := flags.Parse([]string{
		fmt.Sprintf("--secure-port=%d", port),
		"--bind-address=127.0.0.1",
		// Without an explicit address the machine's default route is asked for, which may not exist; and the
		// Service kubernetes cannot have a loopback endpoint, so nobody maintains its endpoints.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--etcd-servers=" + etcdEndpoint.String(),
		"--service-cluster-ip-range=" + serviceRange,

		"--tls-cert-file=" + creds.ServingCert,
		"--tls-private-key-file=" + creds.ServingKey,
		"--token-auth-file=" + creds.TokenFile,
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + creds.ServiceAccountKey,
		"--service-account-signing-key-file=" + creds.ServiceAccountKey,
		"--allow-privileged=true",

		// How kubelets (kubectl logs and exec) and aggregated APIs are reached, and how they know that it is the API
		// server who asks. A node's loopback address is its ExternalIP: the InternalIP is one of the emulated VPC.
		"--kubelet-client-certificate=" + creds.ClientCert,
		"--kubelet-client-key=" + creds.ClientKey,
		"--kubelet-preferred-address-types=ExternalIP",
		"--proxy-client-cert-file=" + creds.ClientCert,
		"--proxy-client-key-file=" + creds.ClientKey,

		// Thousands of pods report their status at once, and one HTTP/2 connection of a kubelet that plays many
		// nodes carries thousands of watches.
		"--max-requests-inflight=4000",
		"--max-mutating-requests-inflight=2000",
		"--http2-max-streams-per-connection=5000",
		"--delete-collection-workers=8",
		"--profiling=false",

		// At the end open watches are closed, or they would hold the server for a minute.
		"--shutdown-watch-termination-grace-period=1s",
	})
	if err != nil {
		return apiServer{}, fmt.Errorf("cannot set up kube-apiserver: %w", err)
	}
	o.SecureServing.Listener = listener
	return apiServer{o}, nil
}

// run serves until ctx ends.
func (s apiServer) run(ctx context.Context) error {
	completed, err := s.options.Complete(ctx)
	if err != nil {
		return fmt.Errorf("cannot complete the settings: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return fmt.Errorf("cannot use the settings: %w", utilerrors.NewAggregate(errs))
	}
	return app.Run(ctx, completed)
}
