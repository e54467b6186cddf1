package kubelet

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/local"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/logs"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/shell"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/volume"
)

// process is what runs in a container: a simulated application or a command.
type process interface {
	Terminate()
	Kill()
	Traffic() app.Traffic
}

// running is one run of a container.
type running struct {
	ref     lifecycle.Ref
	process process
	log     *logs.Log
	// previous is the log of the run before; nil if there was none.
	previous *logs.Log
	// env and dir are what a command is run with, in this container or by exec; files are those of a simulated one.
	env   []app.EnvVar
	dir   string
	files *shell.Files
	// home is the folder of a container that runs a command; moved is where what it mounts is.
	home  string
	moved volume.Relocation
	// console is that of a command; nil for a simulated application.
	console *console
}

// command is a process of this machine. It serves nothing that could be counted.
type command struct{ *local.Process }

// Traffic implements process.
func (command) Traffic() app.Traffic { return app.Traffic{} }

// ended is the process of a command that could not be started.
type ended struct{}

func (ended) Terminate()           {}
func (ended) Kill()                {}
func (ended) Traffic() app.Traffic { return app.Traffic{} }

// prepared is what was read for a container between its pull and its start.
type prepared struct {
	env []app.EnvVar
	err error
}

// prepare calls done, later if the container runs a command: then its whole environment is read first.
func (p *pod) prepare(ref lifecycle.Ref, image app.Image, done func()) {
	v := p.view()
	spec := container(v.pod, ref.Container)
	if !v.runsCommand(spec, image) {
		done()
		return
	}
	if p.k.cfg.NoCommands {
		p.mu.Lock()
		p.prepared[ref] = prepared{err: errNoCommands}
		p.mu.Unlock()
		done()
		return
	}
	p.k.spawn(func() {
		env, err := v.resolvedEnvironment(p.k.life, spec)
		p.mu.Lock()
		p.prepared[ref] = prepared{env, err}
		p.mu.Unlock()
		done()
	})
}

// errNoCommands is why a container whose command would be run does not start. To pretend that it ran would make Jobs succeed
// that have done nothing.
var errNoCommands = errors.New("this container's command would run as a process of the machine that the sandbox is on, which --local-commands=false forbids")

// warnOfCommands says once whose rights commands have.
func (k *Kubelet) warnOfCommands(pod, container any) {
	k.warned.Do(func() {
		k.cfg.Log.Warn("manifests run commands as processes of this machine, with the rights of whoever runs the sandbox; --local-commands=false forbids it",
			"pod", pod, "container", container)
	})
}

// runsCommand reports whether what a container does is its command, run as a process of this machine: because the
// manifest says so, or because it is a shell in a pod that is to complete, such as that of a Job.
func (v view) runsCommand(spec *corev1.Container, image app.Image) bool {
	b, err := image.Behaviour.With(v.pod.Annotations, v.environment(spec))
	if err != nil || b.App == app.Command {
		return err == nil
	}
	argv := slices.Concat(spec.Command, spec.Args)
	if _, sleeps := lifecycle.Sleep(argv); sleeps || len(argv) == 0 && !spec.Stdin {
		return false
	}
	return image.Shell && b.App == image.Behaviour.App && v.pod.Spec.RestartPolicy != corev1.RestartPolicyAlways
}

func (p *pod) start(ref lifecycle.Ref) {
	v := p.view()
	spec := container(v.pod, ref.Container)
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := p.prepared[ref]
	delete(p.prepared, ref)
	cfg, err := p.appConfig(v, spec)
	if err = cmp.Or(err, ready.err); err != nil {
		p.note(lifecycle.StartFailed{Ref: ref, Reason: "CreateContainerConfigError", Message: err.Error()})
		return
	}
	if p.closed {
		return
	}
	r := running{ref: ref, log: p.k.logs.New()}
	if old := p.processes[ref.Container]; old.process != nil {
		p.served = p.served.Plus(old.process.Traffic())
		r.previous = old.log
	}
	if cfg.Behaviour.App == app.Command {
		r.env = ready.env
		if r, err = p.furnish(r, spec); err != nil {
			p.note(lifecycle.StartFailed{Ref: ref, Reason: "CreateContainerConfigError", Message: err.Error()})
			return
		}
	}
	p.note(lifecycle.Started{Ref: ref})
	if cfg.Behaviour.App == app.Command {
		r = p.startCommand(r, v, spec)
	} else {
		r.env, r.files = v.environment(spec), &shell.Files{}
		p.mountDownward(r.files, v.pod, spec)
		cfg.Log = func(line string) { r.log.Printf("%s", line) }
		cfg.Exited = func(code int32, message string) {
			p.exited(r.log, spec, lifecycle.Exited{Ref: ref, Code: code, Message: message})
		}
		application := app.Start(cfg)
		application.Freeze(p.node.lost())
		r.process = application
	}
	p.processes[ref.Container] = r
}

// note adds news for the one who steps the machine. The caller holds mu.
func (p *pod) note(in lifecycle.Input) {
	p.inbox, p.news = append(p.inbox, in), true
	switch in := in.(type) {
	case lifecycle.Observed:
		p.seen = in.Pod
	case lifecycle.NetworkUp:
		p.addr = in.Addr
	}
}

// now returns the pod as it is at present, for everybody.
func (p *pod) now() view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return view{p.k, p.node, p.seen, p.addr}
}

// behave tells the running applications how the pod's annotations want them to behave.
func (p *pod) behave(obj *corev1.Pod) {
	p.mu.Lock()
	changed := !maps.Equal(p.told, obj.Annotations)
	p.told = obj.Annotations
	processes := maps.Clone(p.processes)
	p.mu.Unlock()
	if !changed {
		return
	}
	v := p.now()
	for name, r := range processes {
		application, simulated := r.process.(*app.Process)
		if !simulated {
			continue
		}
		behaviour, err := v.behaviour(container(obj, name))
		if err != nil {
			p.k.events.record(obj, p.node.name, lifecycle.Record{
				Container: name, Type: corev1.EventTypeWarning, Reason: "InvalidBehaviour", Message: "The application goes on as before: " + err.Error(),
			})
			continue
		}
		application.Behave(behaviour)
	}
}

// behaviour returns how a container's application is to behave, by its image and the manifest.
func (v view) behaviour(spec *corev1.Container) (app.Behaviour, error) {
	env := v.environment(spec)
	image, err := v.k.cfg.Images.Find(spec.Image, v.pod.Annotations, env)
	if err != nil {
		return app.Behaviour{}, err
	}
	return image.Behaviour.With(v.pod.Annotations, env)
}

// mountDownward puts the files of downward API volumes where the container mounts them. They change as the pod does.
func (p *pod) mountDownward(files *shell.Files, obj *corev1.Pod, spec *corev1.Container) {
	for _, mount := range spec.VolumeMounts {
		for _, item := range downwardItems(obj, mount.Name) {
			if item.FieldRef == nil {
				continue
			}
			files.Mount(path.Join(mount.MountPath, item.Path), func() string {
				value, _ := p.now().field(item.FieldRef.FieldPath)
				return value
			})
		}
	}
}

func downwardItems(obj *corev1.Pod, volume string) (items []corev1.DownwardAPIVolumeFile) {
	for _, v := range obj.Spec.Volumes {
		switch {
		case v.Name != volume:
		case v.DownwardAPI != nil:
			items = append(items, v.DownwardAPI.Items...)
		case v.Projected != nil:
			for _, source := range v.Projected.Sources {
				if source.DownwardAPI != nil {
					items = append(items, source.DownwardAPI.Items...)
				}
			}
		}
	}
	return items
}

// startCommand starts the command of a container. The caller holds mu.
func (p *pod) startCommand(r running, v view, spec *corev1.Container) running {
	r.process = ended{}
	stdout, stderr := r.log.Writer(logs.Stdout), r.log.Writer(logs.Stderr)
	finish, ok := p.k.track()
	if !ok {
		return r
	}
	var stdin io.Reader
	console, typed := newConsole(spec)
	if typed != nil {
		stdin = typed
	}
	exited := func(in lifecycle.Exited) {
		defer finish()
		_, _ = stdout.Close(), stderr.Close()
		close(console.ended)
		if typed != nil {
			_ = typed.Close()
		}
		p.exited(r.log, spec, in)
	}
	failed := func(err error) running {
		message := "failed to create the container: " + err.Error()
		go exited(lifecycle.Exited{Ref: r.ref, Code: exitStartError, Reason: "StartError", Message: message})
		return r
	}
	argv := slices.Concat(spec.Command, spec.Args)
	if len(argv) == 0 { // as a shell without a terminal does: its input is at its end
		argv = []string{"true"}
		if spec.Stdin {
			argv[0] = "sh"
		}
	}
	for i := range argv {
		argv[i] = expand(argv[i], r.env)
	}
	argv, moved := r.relocated(argv)
	env, movedToo := v.processEnvironment(r)
	if moved || movedToo {
		p.k.events.record(v.pod, p.node.name, lifecycle.Record{
			Container: spec.Name, Type: corev1.EventTypeNormal, Reason: "MountsRelocated",
			Message: fmt.Sprintf("Volumes are mounted below $%s (%s): paths of the command and of its variables were changed to lead there", volume.Variable, r.home),
		})
	}
	r.console = console
	p.k.warnOfCommands(p.name, spec.Name)
	started, err := local.Start(local.Config{
		Command: argv, Env: env, Dir: r.dir, Stdin: stdin, Terminal: spec.TTY && spec.Stdin, Resize: console.resize,
		Stdout: io.MultiWriter(stdout, &console.out), Stderr: io.MultiWriter(stderr, &console.errs),
		Exited: func(code int32) { exited(lifecycle.Exited{Ref: r.ref, Code: code}) },
	})
	if err != nil {
		return failed(err)
	}
	r.process = command{started}
	return r
}

// exitStartError is the exit code that a runtime gives to a container whose program cannot be started.
const exitStartError = 128

// processEnvironment returns what a process of the container finds in its environment.
// moved reports whether paths in it were changed to lead to where volumes are.
func (v view) processEnvironment(r running) (env []string, moved bool) {
	env = []string{"HOSTNAME=" + v.pod.Name, "HOME=" + cmp.Or(r.home, "/root")}
	if r.home != "" {
		env = append(env, volume.Variable+"="+r.home)
	}
	for _, e := range r.env {
		value, changed := r.moved.Relocate(e.Value)
		env, moved = append(env, e.Name+"="+value), moved || changed
	}
	return env, moved
}

// exited tells that a run has ended. What the manifest wants of the log becomes the message.
func (p *pod) exited(log *logs.Log, spec *corev1.Container, in lifecycle.Exited) {
	log.Close()
	if in.Message != "" {
		p.k.cfg.Log.Warn("a container has ended", "pod", p.name, "container", in.Container, "code", in.Code, "reason", in.Message)
	}
	if in.Message == "" && in.Code != 0 && spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
		in.Message = log.Tail(messageLines, messageBytes)
	}
	p.deliver(in)
}

// What of a log becomes a message: a kubelet's own limits.
const (
	messageLines = 80
	messageBytes = 2048
)

// folder returns the folder in which the folders of pods are, and makes it first.
func (k *Kubelet) folder() (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files == "" {
		dir, err := os.MkdirTemp("", "lockstep-pods-")
		if err != nil {
			return "", fmt.Errorf("cannot make a folder for the pods' files: %w", err)
		}
		k.files = dir
	}
	return k.files, nil
}

// removeFiles removes all folders, when nothing runs any more.
func (k *Kubelet) removeFiles() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		p.mu.Lock()
		p.removeFiles()
		p.mu.Unlock()
	}
	if k.files == "" {
		return
	}
	if err := os.RemoveAll(k.files); err != nil {
		k.cfg.Log.Warn("cannot remove the files of the pods", "error", err)
	}
}

// appConfig says what to run for a container, or what is wrong with what the manifest says.
func (p *pod) appConfig(v view, spec *corev1.Container) (app.Config, error) {
	env := v.environment(spec)
	image, err := p.k.cfg.Images.Find(spec.Image, v.pod.Annotations, env)
	if err != nil {
		return app.Config{}, err
	}
	behaviour, err := image.Behaviour.With(v.pod.Annotations, env)
	if err != nil {
		return app.Config{}, err
	}
	if v.runsCommand(spec, image) {
		behaviour.App = app.Command
	}
	listen, err := p.listenAddresses(v.pod, spec, behaviour)
	if err != nil {
		return app.Config{}, err
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(v.pod.Name + "/" + spec.Name))
	return app.Config{
		Identity: app.Identity{
			Pod: v.pod.Name, Namespace: v.pod.Namespace, UID: string(v.pod.UID), Container: spec.Name,
			Node: p.node.name, Zone: p.node.zone, Version: image.Version,
		},
		Behaviour: withCommand(behaviour.Scaled(p.k.Scale()), spec),
		Listen:    listen,
		Seed:      p.k.cfg.Seed ^ hash.Sum64(),
	}, nil
}

// withCommand takes from a container's command what can be simulated of it: that an idle container sleeps.
func withCommand(b app.Behaviour, spec *corev1.Container) app.Behaviour {
	if d, ok := lifecycle.Sleep(slices.Concat(spec.Command, spec.Args)); ok && b.App == "pause" {
		b.RunFor = &d
	}
	return b
}

func (p *pod) withProcess(ref lifecycle.Ref, f func(process)) {
	p.mu.Lock()
	r := p.processes[ref.Container]
	p.mu.Unlock()
	if r.ref == ref && r.process != nil {
		f(r.process)
	}
}

func (p *pod) kill(process process) {
	cut := process.Traffic().InFlight
	process.Kill()
	p.mu.Lock()
	p.cut += cut
	p.mu.Unlock()
}
