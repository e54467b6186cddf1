package steer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/internal/cli/connect"
)

func newSet(streams cli.Streams) *cobra.Command {
	set := &cobra.Command{Use: "set", Short: "Change a field of a rollout"}
	var flags connect.Flags
	image := &cobra.Command{
		Use:     "image NAME CONTAINER=IMAGE...",
		Short:   "Change the image of containers; '*' names all of them",
		Example: "  lockstep set image guestbook guestbook=lockstep.dev/echo:v2 -n guestbook",
		Args:    cli.Args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if IsKind(args[0]) && len(args) > 2 {
				args = args[1:]
			}
			images, err := parseImages(args[1:])
			if err != nil {
				return err
			}
			set := func(ctx context.Context, c client.Client, r *v1alpha1.Rollout) error {
				return SetImage(ctx, c, r, images)
			}
			if err := onRollout(cmd.Context(), flags, args[0], set); err != nil {
				return err
			}
			fmt.Fprintf(streams.Out, "rollout %q image updated\n", args[0])
			return nil
		},
	}
	flags.Bind(image.Flags())
	set.AddCommand(image)
	return set
}

func parseImages(args []string) (map[string]string, error) {
	images := map[string]string{}
	for _, arg := range args {
		container, image, ok := strings.Cut(arg, "=")
		if !ok || container == "" || image == "" {
			return nil, cli.Usagef("%q is not CONTAINER=IMAGE", arg)
		}
		images[container] = image
	}
	return images, nil
}

// SetImage writes new images by container name into a rollout's template. It fails, and changes nothing, when a
// container does not exist or the template changed meanwhile.
func SetImage(ctx context.Context, c client.Client, r *v1alpha1.Rollout, images map[string]string) error {
	if ref := r.Spec.WorkloadRef; ref != nil {
		return fmt.Errorf("rollout %s/%s takes its template from %s %s: change the image there", r.Namespace, r.Name, ref.Kind, ref.Name)
	}
	edits, err := imageEdits(r.Spec.Template.Spec, images)
	if err != nil {
		return fmt.Errorf("rollout %s/%s: %w", r.Namespace, r.Name, err)
	}
	data, err := json.Marshal(edits)
	if err != nil {
		return err
	}
	err = c.Patch(ctx, r, client.RawPatch(types.JSONPatchType, data))
	return connect.Explain(err, "cannot set the image of rollout "+r.Namespace+"/"+r.Name)
}

// edit is one operation of a JSON patch (RFC 6902). A patch touches nothing else of the template, so
// fields that this program does not know survive.
type edit struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

func imageEdits(spec corev1.PodSpec, images map[string]string) ([]edit, error) {
	unused := maps.Clone(images)
	var edits []edit
	var names []string
	for _, list := range []struct {
		field      string
		containers []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for i, container := range list.containers {
			names = append(names, container.Name)
			for _, key := range []string{"*", container.Name} {
				image, ok := images[key]
				if !ok {
					continue
				}
				delete(unused, key)
				path := fmt.Sprintf("/spec/template/spec/%s/%d/", list.field, i)
				edits = append(edits, edit{"test", path + "name", container.Name}, edit{"replace", path + "image", image})
			}
		}
	}
	for _, container := range slices.Sorted(maps.Keys(unused)) {
		slices.Sort(names)
		return nil, fmt.Errorf("there is no container %q in its template, which has %s", container, strings.Join(names, ", "))
	}
	return edits, nil
}
