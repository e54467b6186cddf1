package kubelet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/volume"
)

// Volumes are read again this often, at scale 1, and no more often than that: a kubelet looks at each pod about once a minute.
const (
	volumesEvery = time.Minute
	volumesLeast = time.Second
)

// setUpVolumes fills the volumes that commands of the pod mount. Simulated applications have no files but those of the downward API.
func (p *pod) setUpVolumes() {
	if p.k.cfg.NoCommands || len(p.view().mounted()) == 0 {
		p.deliver(lifecycle.VolumesUp{})
		return
	}
	p.k.spawn(func() {
		problems := p.fillVolumes(p.k.life)
		if len(problems) > 0 {
			p.deliver(lifecycle.VolumesFailed{Messages: problems})
			return
		}
		p.deliver(lifecycle.VolumesUp{})
	})
}

// mounted returns the volumes that containers mount whose command is run as a process.
func (v view) mounted() (list []*corev1.Volume) {
	for _, containers := range [][]corev1.Container{v.pod.Spec.InitContainers, v.pod.Spec.Containers} {
		for i := range containers {
			spec := &containers[i]
			if len(spec.VolumeMounts) == 0 {
				continue
			}
			image, err := v.k.cfg.Images.Find(spec.Image, v.pod.Annotations, v.environment(spec))
			if err != nil || !v.runsCommand(spec, image) {
				continue
			}
			for _, m := range spec.VolumeMounts {
				at := slices.IndexFunc(v.pod.Spec.Volumes, func(known corev1.Volume) bool { return known.Name == m.Name })
				if at >= 0 && !slices.Contains(list, &v.pod.Spec.Volumes[at]) {
					list = append(list, &v.pod.Spec.Volumes[at])
				}
			}
		}
	}
	return list
}

// fillVolumes gives the volumes of the pod what they are to hold at present, and returns what is wrong, in the words of a kubelet.
// What cannot be read anew keeps what it has.
func (p *pod) fillVolumes(ctx context.Context) (problems []string) {
	p.filling.Lock()
	defer p.filling.Unlock()
	v := p.now()
	disk, err := p.openDisk()
	if err != nil {
		return []string{err.Error()}
	}
	source := &sources{k: p.k, ctx: ctx, namespace: v.pod.Namespace}
	for _, vol := range v.mounted() {
		err := p.fill(disk, v, source, vol)
		if err != nil && ctx.Err() == nil {
			problems = append(problems, fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", vol.Name, err))
		}
	}
	return problems
}

func (p *pod) fill(disk *volume.Folder, v view, source *sources, vol *corev1.Volume) error {
	if vol.EmptyDir != nil {
		return disk.Empty(vol.Name)
	}
	files, err := p.volumeFiles(v, source, vol)
	if err != nil {
		return err
	}
	_, err = disk.Files(vol.Name, files)
	return err
}

// refreshVolumes brings the volumes of all pods up to date until ctx ends.
func (k *Kubelet) refreshVolumes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(k.scaled(volumesEvery), volumesLeast)):
		}
		k.mu.Lock()
		pods := make([]*pod, 0, len(k.pods))
		for _, p := range k.pods {
			pods = append(pods, p)
		}
		k.mu.Unlock()
		for _, p := range pods {
			p.refresh(ctx)
		}
	}
}

// refresh brings the volumes of the pod up to date, if it has any.
func (p *pod) refresh(ctx context.Context) {
	p.mu.Lock()
	there := p.disk != nil && !p.undone && !p.closed
	obj := p.seen
	p.mu.Unlock()
	if !there || p.node.lost() {
		return
	}
	for _, problem := range p.fillVolumes(ctx) {
		p.mu.Lock()
		undone := p.undone
		p.mu.Unlock()
		if !undone {
			p.k.events.record(obj, p.node.name, lifecycle.Record{Type: corev1.EventTypeWarning, Reason: "FailedMount", Message: problem})
		}
	}
	p.limitVolumes()
}

// evictionGrace is how long a kubelet gives the containers of a pod that it evicts for what it takes of the disk.
const evictionGrace = time.Second

// limitVolumes evicts the pod if one of its emptyDirs holds more than it may, in the words of a kubelet. Critical pods are never evicted.
func (p *pod) limitVolumes() {
	v := p.now()
	if priority := v.pod.Spec.Priority; priority != nil && *priority >= systemCritical {
		return
	}
	disk, err := p.openDisk()
	if err != nil {
		return // the pod has ended
	}
	for _, vol := range v.mounted() {
		if vol.EmptyDir == nil || vol.EmptyDir.SizeLimit == nil || vol.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if limit := vol.EmptyDir.SizeLimit; limit.CmpInt64(disk.Usage(vol.Name)) < 0 {
			message := fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", vol.Name, limit)
			p.deliver(lifecycle.Condemned{Reason: "Evicted", Message: message, Grace: evictionGrace})
			return
		}
	}
}

// systemCritical is the least priority of pods that a cluster cannot be without.
const systemCritical = 2_000_000_000

// errUndone is why a pod that has ended gets no folder.
var errUndone = errors.New("the pod has ended")

// openDisk returns the pod's folder, and makes it first.
func (p *pod) openDisk() (*volume.Folder, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.diskLocked()
}

// folderName is how much of a pod's name is in that of its folder: file systems do not take both in full.
const folderName = 150

// diskLocked is openDisk for a caller that holds mu.
func (p *pod) diskLocked() (*volume.Folder, error) {
	if p.undone || p.closed {
		return nil, errUndone
	}
	if p.disk != nil {
		return p.disk, nil
	}
	root, err := p.k.folder()
	if err != nil {
		return nil, err
	}
	name := firstBytes(p.name.Namespace+"_"+p.name.Name, folderName) + "_" + string(p.uid)
	p.disk, err = volume.Open(filepath.Join(root, name))
	return p.disk, err
}

// removeFiles removes what the pod's commands have left, and its volumes. The caller holds mu.
func (p *pod) removeFiles() {
	p.undone = true
	if p.disk == nil {
		return
	}
	if err := p.disk.Remove(); err != nil {
		p.k.cfg.Log.Warn("cannot remove the files of a pod", "pod", p.name, "error", err)
	}
}

// furnish makes the folder of a container that runs a command, with all that it mounts; each run finds it anew. The caller holds mu.
func (p *pod) furnish(r running, spec *corev1.Container) (running, error) {
	disk, err := p.diskLocked()
	if err != nil {
		return r, err
	}
	if r.home, err = disk.Container(spec.Name); err != nil {
		return r, err
	}
	mounts, err := mountsOf(spec, r)
	if err != nil {
		return r, err
	}
	if r.moved, err = disk.Mount(spec.Name, mounts); err != nil {
		return r, err
	}
	if len(mounts) > 0 && !r.moved.Safe() {
		return r, fmt.Errorf("the temporary folder %s has a name that scripts cannot hold: set TMPDIR to another one", r.home)
	}
	r.dir = r.home
	if spec.WorkingDir != "" {
		r.dir, err = disk.WorkingDir(spec.Name, spec.WorkingDir, mounts)
	}
	return r, err
}

func mountsOf(spec *corev1.Container, r running) ([]volume.Mount, error) {
	var mounts []volume.Mount
	for _, m := range spec.VolumeMounts {
		sub := m.SubPath
		if m.SubPathExpr != "" {
			if sub = expand(m.SubPathExpr, r.env); strings.Contains(sub, "$(") {
				return nil, fmt.Errorf("subPathExpr %q of volume %q names a variable that the container does not have", m.SubPathExpr, m.Name)
			}
		}
		mounts = append(mounts, volume.Mount{Volume: m.Name, SubPath: sub, At: m.MountPath})
	}
	return mounts, nil
}

// relocated returns arguments whose paths of mounted volumes lead to where the volumes are, and whether there were any.
func (r running) relocated(args []string) (result []string, moved bool) {
	for _, arg := range args {
		text, changed := r.moved.Relocate(arg)
		result, moved = append(result, text), moved || changed
	}
	return result, moved
}
