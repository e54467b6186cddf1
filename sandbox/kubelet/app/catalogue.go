package app

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Image is what the catalogue knows about an image.
type Image struct {
	// Version is the tag.
	Version string
	// Behaviour is that of the image itself, before manifests change it.
	Behaviour Behaviour
	// Shell says that the image is a shell and its tools: what a container of it does is what its command says.
	Shell bool
}

// Catalogue says which application an image is. The zero value knows the images of the package
// comment.
type Catalogue struct {
	// More maps further repositories, as they are written in manifests without the tag, to the
	// application to run for them: echo, color or pause.
	More map[string]string
	// Unknown is the application to run for images that nobody knows; empty means that they cannot be pulled.
	Unknown string
}

// Find returns what a container with this image runs, given the pod's annotations and the container's
// environment: either may name the application, so that images which only exist elsewhere can be used. The
// error says that the image cannot be pulled.
func (c Catalogue) Find(reference string, annotations map[string]string, env []EnvVar) (Image, error) {
	image, err := c.find(reference)
	if err == nil {
		return image, nil
	}
	asked := annotations[AnnotationPrefix+"app"]
	for _, e := range env {
		if e.Name == EnvPrefix+"APP" {
			asked = e.Value
		}
	}
	if asked == "" {
		return Image{}, err
	}
	_, image.Version = splitReference(reference)
	image.Behaviour = Behaviour{App: asked, OnSIGTERM: Graceful}
	return image, nil
}

func (c Catalogue) find(reference string) (Image, error) {
	repository, tag := splitReference(reference)
	image := Image{Version: tag, Behaviour: Behaviour{OnSIGTERM: Graceful}}
	if name, ok := c.More[repository]; ok {
		image.Behaviour.App = name
		return image, nil
	}
	switch repository {
	case "lockstep.dev/echo":
		image.Behaviour.App = "echo"
		return image, nil
	case "argoproj/rollouts-demo":
		if b, ok := demoBehaviour(tag); ok {
			image.Behaviour = b
			return image, nil
		}
	case "registry.k8s.io/pause", "pause":
		image.Behaviour.App = "pause"
		return image, nil
	case "busybox", "alpine", "bash", "debian", "ubuntu":
		image.Shell = true
		image.Behaviour.App, image.Behaviour.RunFor = "pause", new(time.Duration(0))
		return image, nil
	}
	if c.Unknown != "" {
		image.Behaviour.App = c.Unknown
		return image, nil
	}
	return Image{}, fmt.Errorf("%s: not found in the sandbox's image catalogue: use lockstep.dev/echo:<version>, or choose what to run for it with the annotation %sapp", reference, AnnotationPrefix)
}

// reference is what image references look like, roughly: a kubelet does not try to pull what is none.
var reference = regexp.MustCompile(`^[a-zA-Z0-9.\-]+(:[0-9]+)?(/[a-z0-9._\-]+)*(:[\w][\w.\-]{0,127})?(@sha256:[a-f0-9]{64})?$`)

// ValidReference reports whether a string can be the name of an image.
func ValidReference(image string) bool { return reference.MatchString(image) }

// splitReference takes an image reference apart. The default registry is left out of the repository.
func splitReference(reference string) (repository, tag string) {
	repository, _, _ = strings.Cut(reference, "@")
	tag = "latest"
	if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:colon], repository[colon+1:]
	}
	for _, registry := range []string{"docker.io/library/", "docker.io/", "index.docker.io/"} {
		if rest, ok := strings.CutPrefix(repository, registry); ok {
			return rest, tag
		}
	}
	return repository, tag
}

var colours = []string{"red", "orange", "yellow", "green", "blue", "purple"}

// demoBehaviour is that of the published demo images.
func demoBehaviour(tag string) (Behaviour, bool) {
	b := Behaviour{App: "color", OnSIGTERM: Graceful, DrainDelay: 10 * time.Second}
	colour := tag
	if rest, ok := strings.CutPrefix(tag, "bad-"); ok {
		colour, b.ErrorRate = rest, 0.15
	} else if rest, ok := strings.CutPrefix(tag, "slow-"); ok {
		colour, b.Latency.Low = rest, 2*time.Second
	}
	for _, c := range colours {
		if c == colour {
			return b, true
		}
	}
	return Behaviour{}, false
}

// Version returns the tag of an image reference, which is the version that its answers show.
func Version(reference string) string {
	_, tag := splitReference(reference)
	return tag
}
