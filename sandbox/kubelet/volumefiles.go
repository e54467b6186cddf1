package kubelet

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/volume"
)

// defaultMode is that of files for which the manifest gives none.
const defaultMode = 0o644

// volumeFiles returns what a volume holds at present.
func (p *pod) volumeFiles(v view, s *sources, vol *corev1.Volume) (map[string]volume.File, error) {
	switch {
	case vol.ConfigMap != nil:
		c := vol.ConfigMap
		return s.files("ConfigMap", c.Name, c.Items, c.DefaultMode, c.Optional)
	case vol.Secret != nil:
		c := vol.Secret
		return s.files("Secret", c.SecretName, c.Items, c.DefaultMode, c.Optional)
	case vol.DownwardAPI != nil:
		return v.downwardFiles(vol.DownwardAPI.Items, vol.DownwardAPI.DefaultMode)
	case vol.Projected != nil:
		return p.projectedFiles(v, s, vol)
	default:
		return nil, errors.New("the sandbox has no volumes of this kind: use emptyDir, configMap, secret, downwardAPI or projected")
	}
}

// projectedFiles puts the sources of a projected volume together. What is wrong with any of them is told at once.
func (p *pod) projectedFiles(v view, s *sources, vol *corev1.Volume) (map[string]volume.File, error) {
	all := map[string]volume.File{}
	var problems []error
	mode := vol.Projected.DefaultMode
	for i, source := range vol.Projected.Sources {
		var files map[string]volume.File
		var err error
		switch {
		case source.ConfigMap != nil:
			c := source.ConfigMap
			files, err = s.files("ConfigMap", c.Name, c.Items, mode, c.Optional)
		case source.Secret != nil:
			c := source.Secret
			files, err = s.files("Secret", c.Name, c.Items, mode, c.Optional)
		case source.DownwardAPI != nil:
			files, err = v.downwardFiles(source.DownwardAPI.Items, mode)
		case source.ServiceAccountToken != nil:
			c := source.ServiceAccountToken
			var text string
			text, err = p.token(v, s, fmt.Sprintf("%s/%d", vol.Name, i), c)
			files = map[string]volume.File{c.Path: file([]byte(text), nil, mode)}
		default:
			err = errors.New("the sandbox does not have this source of a projected volume: use configMap, secret, downwardAPI or serviceAccountToken")
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		maps.Copy(all, files)
	}
	return all, together(problems)
}

// together joins errors as a kubelet does in one line.
func together(problems []error) error {
	if len(problems) < 2 {
		return errors.Join(problems...)
	}
	var texts []string
	for _, err := range problems {
		texts = append(texts, err.Error())
	}
	return fmt.Errorf("[%s]", strings.Join(texts, ", "))
}

func file(data []byte, modes ...*int32) volume.File {
	f := volume.File{Data: data, Mode: defaultMode}
	for _, m := range slices.Backward(modes) {
		if m != nil {
			f.Mode = fs.FileMode(*m) & fs.ModePerm
		}
	}
	return f
}

// files returns the keys of a ConfigMap or a Secret as files: all of them under their own names, or the items.
func (s *sources) files(kind, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (map[string]volume.File, error) {
	text, binary, err := s.get(kind, name, optional)
	if err != nil {
		return nil, err
	}
	data := binary
	for key, value := range text {
		data[key] = []byte(value)
	}
	files := map[string]volume.File{}
	if len(items) == 0 {
		for key, value := range data {
			files[key] = file(value, mode)
		}
		return files, nil
	}
	for _, item := range items {
		value, found := data[item.Key]
		switch {
		case found:
			files[item.Path] = file(value, item.Mode, mode)
		case optional != nil && *optional:
		case kind == "Secret":
			return nil, fmt.Errorf("references non-existent secret key: %s", item.Key)
		default:
			return nil, fmt.Errorf("configmap references non-existent config key: %s", item.Key)
		}
	}
	return files, nil
}

func (v view) downwardFiles(items []corev1.DownwardAPIVolumeFile, mode *int32) (map[string]volume.File, error) {
	files := map[string]volume.File{}
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			var known bool
			if value, known = v.field(item.FieldRef.FieldPath); !known {
				err = fmt.Errorf("unsupported fieldPath: %s", item.FieldRef.FieldPath)
			}
		case item.ResourceFieldRef != nil:
			value, err = v.resource(container(v.pod, item.ResourceFieldRef.ContainerName), item.ResourceFieldRef)
		}
		if err != nil {
			return nil, err
		}
		files[item.Path] = file([]byte(value), item.Mode, mode)
	}
	return files, nil
}

// token is that of a service account, for one source of a volume.
type token struct {
	text  string
	renew time.Time
}

// Of a token's life, a kubelet lets it have four fifths, and at most a day, before it asks for the next one.
const (
	tokenLife    = time.Hour
	tokenOldest  = 24 * time.Hour
	tokenPercent = 80
)

// token returns a token of the pod's service account that the API server has made. The caller holds filling.
func (p *pod) token(v view, s *sources, key string, source *corev1.ServiceAccountTokenProjection) (string, error) {
	if t := p.tokens[key]; time.Now().Before(t.renew) {
		return t.text, nil
	}
	life := int64(tokenLife.Seconds())
	if source.ExpirationSeconds != nil {
		life = *source.ExpirationSeconds
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &life,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: v.pod.Name, UID: v.pod.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	account := cmp.Or(v.pod.Spec.ServiceAccountName, "default")
	asked := time.Now()
	given, err := v.k.client.CoreV1().ServiceAccounts(s.namespace).CreateToken(s.ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("failed to fetch token: %w", err)
	}
	lives := given.Status.ExpirationTimestamp.Sub(asked) / 100 * tokenPercent
	if p.tokens == nil {
		p.tokens = map[string]token{}
	}
	p.tokens[key] = token{given.Status.Token, asked.Add(min(lives, tokenOldest))}
	return given.Status.Token, nil
}
