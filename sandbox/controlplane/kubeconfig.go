package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/lockstep-delivery/lockstep/sandbox/controlplane/credentials"
)

// kubeconfigs are the paths of the files through which clients find the API server.
type kubeconfigs struct {
	admin   string // for users of the sandbox
	manager string // for kube-controller-manager
}

// writeKubeconfigs writes both files, each at once: whoever reads one sees the old or the new, never a part.
func writeKubeconfigs(dir string, address net.Addr, creds credentials.Credentials) (kubeconfigs, error) {
	k := kubeconfigs{
		admin:   filepath.Join(dir, "kubeconfig"),
		manager: filepath.Join(dir, "credentials", "controller-manager.kubeconfig"),
	}
	if err := writeKubeconfig(k.admin, address, creds.Authority, creds.AdminToken); err != nil {
		return kubeconfigs{}, err
	}
	if err := writeKubeconfig(k.manager, address, creds.Authority, creds.ManagerToken); err != nil {
		return kubeconfigs{}, err
	}
	return k, nil
}

func writeKubeconfig(path string, address net.Addr, authority []byte, token string) error {
	const name = "lockstep-sandbox"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + address.String(), CertificateAuthorityData: authority}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	content, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("cannot encode a kubeconfig: %w", err)
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return fmt.Errorf("cannot write a kubeconfig: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot put a kubeconfig in its place: %w", err)
	}
	return nil
}

// restConfig reads a kubeconfig for our own few questions, which need no rate limit.
func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	return config, nil
}
