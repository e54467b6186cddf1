package kubelet

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
)

// NoticeKind says what has become of a pod.
type NoticeKind string

// The kinds of notices.
const (
	// PodStopping: a container was sent SIGTERM.
	PodStopping NoticeKind = "stopping"
	// PodStopped: no process of the pod is left, since it was deleted or has completed. Traffic is final.
	PodStopped NoticeKind = "stopped"
	// PodDeleted: the API server has let the object go.
	PodDeleted NoticeKind = "deleted"
)

// Notice tells what has become of a pod, and what it had served.
type Notice struct {
	Time time.Time
	Kind NoticeKind
	PodInfo
}

// PodInfo is what the kubelet knows of a pod.
type PodInfo struct {
	Pod  types.NamespacedName
	UID  types.UID
	Node string
	Addr netip.Addr
	// Controller is the kind and name of the pod's controller, such as ReplicaSet/web-5d9c.
	Controller string
	// Version is the tag of the first container's image.
	Version string
	// Traffic is what all its containers have served, health checks not counted.
	Traffic app.Traffic
	// Cut is how many requests were under way when a process was killed.
	Cut int64
}

func (p *pod) notify(kind NoticeKind) {
	if p.k.cfg.Notify != nil {
		p.k.cfg.Notify(Notice{Time: time.Now(), Kind: kind, PodInfo: p.info()})
	}
}

func (p *pod) info() PodInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	obj := p.last.pod
	if obj == nil {
		return PodInfo{Pod: p.name, UID: p.uid, Node: p.node.name}
	}
	i := PodInfo{
		Pod: p.name, UID: p.uid, Node: p.node.name, Controller: controller(obj), Version: app.Version(obj.Spec.Containers[0].Image),
		Traffic: p.served, Cut: p.cut,
	}
	i.Addr, _ = netip.ParseAddr(p.last.status.PodIP)
	for _, r := range p.processes {
		i.Traffic = i.Traffic.Plus(r.process.Traffic())
	}
	return i
}

// Pods returns what is known of every pod that runs here, in no order.
func (k *Kubelet) Pods() []PodInfo {
	k.mu.Lock()
	pods := make([]*pod, 0, len(k.pods))
	for _, p := range k.pods {
		pods = append(pods, p)
	}
	k.mu.Unlock()
	infos := make([]PodInfo, 0, len(pods))
	for _, p := range pods {
		infos = append(infos, p.info())
	}
	return infos
}
