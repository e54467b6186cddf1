package aws

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/sts"
)

// Identities are users with their keys, and roles that can be assumed, as a YAML file tells them:
//
//	owner:                      # the key that the sandbox tells its clients; may be left out
//	  accessKeyId: AKIAOWNER00000000000
//	  secretAccessKey: owner-secret
//	users:
//	- name: deployer
//	  accessKeyId: AKIADEPLOYER00000000
//	  secretAccessKey: deployer-secret
//	  policies:
//	  - Statement: [{Effect: Allow, Action: "elasticloadbalancing:*", Resource: "*"}]
//	roles:
//	- name: controller
//	  externalId: shop          # who assumes the role has to name it; may be left out
//	  maxSessionDuration: 1h    # default 12h
//	  policies: [controller.json]
//
// A policy is a document as IAM takes it, or the path of a JSON file with one, seen from the folder of the YAML file. Who has no
// policies may do nothing; a list that is left out lets everything be done. Without roles, every name is that of a role that may do everything.
type Identities struct {
	// Owner is the owner of the account. Zero: the one that the account would have without a file.
	Owner sts.User
	Users []sts.User
	Roles []sts.Role
}

type identitiesFile struct {
	Owner *identityOfUser  `json:"owner,omitempty"`
	Users []identityOfUser `json:"users,omitempty"`
	Roles []struct {
		Name       string            `json:"name"`
		ExternalID string            `json:"externalId"`
		MaxSession string            `json:"maxSessionDuration"`
		Policies   []json.RawMessage `json:"policies,omitzero"`
	} `json:"roles,omitzero"`
}

type identityOfUser struct {
	Name            string            `json:"name"`
	AccessKeyID     string            `json:"accessKeyId"`
	SecretAccessKey string            `json:"secretAccessKey"`
	Policies        []json.RawMessage `json:"policies,omitzero"`
}

var (
	principalName = regexp.MustCompile(`^([\w+=,.@-]+/)*[\w+=,.@-]{1,64}$`)
	accessKeyID   = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
)

// LoadIdentities reads a file of identities.
func LoadIdentities(path string) (Identities, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Identities{}, err
	}
	known, err := ParseIdentities(text, filepath.Dir(path))
	if err != nil {
		return Identities{}, fmt.Errorf("%s: %w", path, err)
	}
	return known, nil
}

// InlineIdentities reads a file of identities and gives it with the policies in it that it has from other files: what the admin API takes. It
// fails as LoadIdentities does.
func InlineIdentities(path string) ([]byte, error) {
	if _, err := LoadIdentities(path); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file identitiesFile
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return nil, err
	}
	lists := []*[]json.RawMessage{}
	if file.Owner != nil {
		lists = append(lists, &file.Owner.Policies)
	}
	for i := range file.Users {
		lists = append(lists, &file.Users[i].Policies)
	}
	for i := range file.Roles {
		lists = append(lists, &file.Roles[i].Policies)
	}
	for _, list := range lists {
		joined, err := policies(*list, filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		if joined == nil {
			continue
		}
		*list = []json.RawMessage{}
		for _, document := range joined.Documents() {
			*list = append(*list, json.RawMessage(document))
		}
	}
	return json.Marshal(file)
}

// ParseIdentities reads identities from YAML. Policies in files of their own are looked for in a folder; if that is empty, they are refused.
func ParseIdentities(text []byte, folder string) (Identities, error) {
	var file identitiesFile
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return Identities{}, fmt.Errorf("cannot read the identities: %w", err)
	}
	var known Identities
	names, keys := map[string]bool{}, map[string]bool{}
	all := file.Users
	if file.Owner != nil {
		file.Owner.Name = cmp.Or(file.Owner.Name, "lockstep")
		all = append(slices.Clone(all), *file.Owner)
	}
	for i, u := range all {
		fail := func(err error) (Identities, error) {
			if i == len(file.Users) {
				return Identities{}, fmt.Errorf("cannot use the owner: %w", err)
			}
			return Identities{}, fmt.Errorf("cannot use user %d (%q): %w", i+1, u.Name, err)
		}
		switch {
		case !principalName.MatchString(u.Name):
			return fail(errors.New("a name has up to 64 letters, digits and any of + = , . @ - _"))
		case !accessKeyID.MatchString(u.AccessKeyID):
			return fail(fmt.Errorf("accessKeyId is %q: use 16 to 128 capital letters and digits", u.AccessKeyID))
		case u.SecretAccessKey == "":
			return fail(errors.New("it needs a secretAccessKey"))
		case names[u.Name] || keys[u.AccessKeyID]:
			return fail(errors.New("another user has the same name or key"))
		}
		names[u.Name], keys[u.AccessKeyID] = true, true
		joined, err := policies(u.Policies, folder)
		if err != nil {
			return fail(err)
		}
		user := sts.User{Name: u.Name, AccessKeyID: u.AccessKeyID, SecretAccessKey: u.SecretAccessKey, Policy: joined}
		if i == len(file.Users) {
			known.Owner = user
			break
		}
		known.Users = append(known.Users, user)
	}
	if file.Roles != nil {
		known.Roles = []sts.Role{}
	}
	for i, r := range file.Roles {
		fail := func(err error) (Identities, error) {
			return Identities{}, fmt.Errorf("cannot use role %d (%q): %w", i+1, r.Name, err)
		}
		role := sts.Role{Name: r.Name, ExternalID: r.ExternalID}
		if !principalName.MatchString(r.Name) {
			return fail(errors.New("a name has up to 64 letters, digits and any of + = , . @ - _, and may have a path in front"))
		}
		var err error
		if r.MaxSession != "" {
			if role.MaxSession, err = time.ParseDuration(r.MaxSession); err != nil || role.MaxSession < time.Hour || role.MaxSession > 12*time.Hour {
				return fail(fmt.Errorf("maxSessionDuration is %q: use 1h to 12h", r.MaxSession))
			}
		}
		if role.Policy, err = policies(r.Policies, folder); err != nil {
			return fail(err)
		}
		known.Roles = append(known.Roles, role)
	}
	return known, nil
}

// policies joins documents, and those in files. It is nil, which lets everything be done, if there is no list.
func policies(list []json.RawMessage, folder string) (*policy.Policy, error) {
	if list == nil {
		return nil, nil
	}
	joined := policy.Join()
	for i, text := range list {
		var path string
		if json.Unmarshal(text, &path) == nil {
			if folder == "" {
				return nil, fmt.Errorf("policy %d is the path %q: write the document here", i+1, path)
			}
			if !filepath.IsAbs(path) {
				path = filepath.Join(folder, path)
			}
			var err error
			if text, err = os.ReadFile(path); err != nil {
				return nil, fmt.Errorf("policy %d: %w", i+1, err)
			}
		}
		one, err := policy.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("policy %d: %w", i+1, err)
		}
		joined = policy.Join(joined, one)
	}
	return joined, nil
}

// SetIdentities replaces the account's users and roles; the owner stays. It counts after the time that the profile gives to IAM.
func (e *Emulator) SetIdentities(known Identities) { e.sts.SetIdentities(known.Users, known.Roles) }

// setIdentities is for the admin API: policies have to stand in the body.
func (e *Emulator) setIdentities(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var known Identities
	if err == nil {
		known, err = ParseIdentities(text, "")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.SetIdentities(known)
	w.WriteHeader(http.StatusNoContent)
}
