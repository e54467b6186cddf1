package main

import (
	"context"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcdEndpoint is where the API server finds etcd: a socket in the working directory. etcd insists on
// host:port in addresses that it advertises, so the name of the socket's file looks like one.
var (
	etcdEndpoint = url.URL{Scheme: "unix", Host: "etcd.sock:0"}
	etcdPeer     = url.URL{Scheme: "unix", Host: "etcd-peer.sock:0"} // nobody calls: there is one member
)

// etcdQuota is the size of the database at which etcd turns read-only. The default of 2 GiB is reached by
// long runs with tens of thousands of pods.
const etcdQuota = 8 << 30

// startEtcd starts an etcd with one member that keeps its data in the working directory, and returns when it
// takes requests.
func startEtcd(ctx context.Context) (*part, error) {
	c := embed.NewConfig()
	c.Name = "sandbox"
	c.Dir = "etcd"
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{etcdEndpoint}, []url.URL{etcdEndpoint}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{etcdPeer}, []url.URL{etcdPeer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.QuotaBackendBytes = etcdQuota
	// A sandbox that loses its last writes in a power cut has lost nothing.
	c.UnsafeNoFsync = true
	// The one member elects itself when the election timeout has passed: a tenth of the usual second, since no
	// network lies between the member and itself.
	c.TickMs, c.ElectionMs = 20, 100
	c.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration // left at 0, every request is one
	c.LogLevel = "warn"
	c.LogOutputs = []string{"stderr"}

	etcd, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("cannot start etcd: %w", err)
	}
	running := &part{stop: etcd.Close, done: make(chan struct{})}
	go func() {
		defer close(running.done)
		// The channel gives the reason of an end, and is closed once the end is complete.
		for err := range etcd.Err() {
			running.err = err
		}
	}()
	select {
	case <-etcd.Server.ReadyNotify():
		return running, nil
	case <-running.done:
		return nil, fmt.Errorf("etcd ended while starting: %w", running.err)
	case <-ctx.Done():
		etcd.Close()
		return nil, fmt.Errorf("stopped while etcd was starting: %w", context.Cause(ctx))
	}
}
