package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"

	"github.com/lockstep-delivery/lockstep/sandbox/controlplane/credentials"
)

// controllers are what runs of kube-controller-manager. Everything about volumes, and what clouds and networks need
// to know of nodes, is left out: the sandbox's kubelet answers for its own nodes.
func controllers() []string {
	return []string{
		names.DeploymentController,
		names.ReplicaSetController,
		names.JobController,
		names.TTLAfterFinishedController,
		names.EndpointsController,
		names.EndpointSliceController,
		names.GarbageCollectorController,
		names.NamespaceController,
		names.ServiceAccountController,
		names.ServiceAccountTokenController,
		names.HorizontalPodAutoscalerController,
		names.DisruptionController,
		names.PodGarbageCollectorController,
		// Nodes that no longer renew their lease become unreachable, their pods not ready, and later evicted.
		names.NodeLifecycleController,
		names.TaintEvictionController,
	}
}

// controllerManager is a kube-controller-manager that has not been started.
type controllerManager struct {
	options *options.KubeControllerManagerOptions
}

// newControllers prepares kube-controller-manager with the API server and the token that kubeconfig names.
// There is no leader election, since there is one manager, and nothing is served.
func newControllers(kubeconfig string, creds credentials.Credentials) (controllerManager, error) {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return controllerManager{}, fmt.Errorf("cannot set up kube-controller-manager: %w", err)
	}
	flags := pflag.NewFlagSet("kube-controller-manager", pflag.ContinueOnError)
	for _, set := range o.Flags(app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()).FlagSets {
		flags.AddFlagSet(set)
	}
	err = flags.Parse([]string{
		"--kubeconfig=" + kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--controllers=" + strings.Join(controllers(), ","),
		"--service-account-private-key-file=" + creds.ServiceAccountKey,

		// The defaults (20 and 30 requests a second) would take minutes for the pods of one large rollout. More than
		// this is slower again on two cores: the API server then drops watches that fall behind, the controllers'
		// own among them, and each drop costs a round of retries (313 instead of 10 for 3,000 pods at 2,000).
		"--kube-api-qps=500",
		"--kube-api-burst=500",
		"--concurrent-deployment-syncs=20",
		"--concurrent-replicaset-syncs=20",
		"--concurrent-endpoint-syncs=20",
		"--concurrent-service-endpoint-syncs=20",
		"--concurrent-serviceaccount-token-syncs=20",
	})
	if err != nil {
		return controllerManager{}, fmt.Errorf("cannot set up kube-controller-manager: %w", err)
	}
	return controllerManager{o}, nil
}

// run runs the controllers until ctx ends.
func (m controllerManager) run(ctx context.Context) error {
	config, err := m.options.Config(ctx, app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	if err != nil {
		return fmt.Errorf("cannot use the settings: %w", err)
	}
	return app.Run(ctx, config.Complete())
}
