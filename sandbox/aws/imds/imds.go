// Package imds is the metadata service of an EC2 instance (version 2, which needs a token for each
// question) and the endpoint from which containers get their credentials.
//
//	AWS_EC2_METADATA_SERVICE_ENDPOINT=http://<endpoint>
//	AWS_CONTAINER_CREDENTIALS_FULL_URI=http://<endpoint>/v2/credentials/<role>
//
// All callers see the same instance. Not modelled: version 1 without tokens, hop limits, user data, tags,
// spot and maintenance events.
package imds

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Instance is what the service tells of the machine that asks.
type Instance struct {
	ID, Type, Image    string
	Region, Zone       string
	Account            string
	Address, Name, MAC string
	VPC, Subnet        string
	Interface          string
	CIDR               string
	SecurityGroups     []string
	Launched           time.Time
}

// Credentials are a temporary key.
type Credentials struct {
	AccessKeyID, SecretAccessKey, Token string
	Expires                             time.Time
}

// Config is what the service depends on.
type Config struct {
	// Instance is asked each time.
	Instance func() Instance
	// Role is the role of the instance.
	Role string
	// Issue makes a temporary key for a role; it fails if there is no such role.
	Issue func(role string, lifetime time.Duration) (Credentials, error)
}

const (
	tokenPath     = "/latest/api/token"
	metadataPath  = "/latest/meta-data/"
	documentPath  = "/latest/dynamic/instance-identity/document"
	containerPath = "/v2/credentials/"

	lifetimeHeader = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	tokenHeader    = "X-Aws-Ec2-Metadata-Token"
	longestToken   = 21_600 // seconds

	// sessionLifetime is that of the keys it gives out; they are made anew when less than renew is left.
	sessionLifetime = 6 * time.Hour
	renew           = 15 * time.Minute
	maxTokens       = 10_000
)

// Service is an http.Handler for the paths that Serves names.
type Service struct {
	config Config

	mu     sync.Mutex
	tokens map[string]time.Time // until when
	keys   map[string]Credentials
}

// New returns a service.
func New(config Config) *Service {
	return &Service{config: config, tokens: map[string]time.Time{}, keys: map[string]Credentials{}}
}

// Serves says whether a path is one of the service.
func Serves(path string) bool {
	return strings.HasPrefix(path, "/latest/") || strings.HasPrefix(path, containerPath)
}

// ServeHTTP answers one question.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	role, container := strings.CutPrefix(r.URL.Path, containerPath)
	switch {
	case r.URL.Path == tokenPath:
		s.giveToken(w, r)
	case r.Method != http.MethodGet:
		http.Error(w, "405 - Method Not Allowed", http.StatusMethodNotAllowed)
	case container:
		s.giveContainer(w, role)
	case !s.valid(r.Header.Get(tokenHeader)):
		http.Error(w, "401 - Unauthorized", http.StatusUnauthorized)
	case r.URL.Path == documentPath:
		s.giveDocument(w)
	default:
		s.giveMetadata(w, strings.TrimPrefix(r.URL.Path, metadataPath))
	}
}

func (s *Service) giveToken(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(r.Header.Get(lifetimeHeader))
	switch {
	case r.Method != http.MethodPut:
		http.Error(w, "405 - Method Not Allowed", http.StatusMethodNotAllowed)
		return
	case err != nil || seconds < 1 || seconds > longestToken:
		http.Error(w, fmt.Sprintf("400 - Bad Request: %s must be 1 to %d", lifetimeHeader, longestToken), http.StatusBadRequest)
		return
	}
	token, now := rand.Text(), time.Now()
	s.mu.Lock()
	if len(s.tokens) >= maxTokens {
		for old, until := range s.tokens {
			if len(s.tokens) >= maxTokens || now.After(until) {
				delete(s.tokens, old)
			}
		}
	}
	s.tokens[token] = now.Add(time.Duration(seconds) * time.Second)
	s.mu.Unlock()
	w.Header().Set(lifetimeHeader, strconv.Itoa(seconds))
	fmt.Fprint(w, token)
}

func (s *Service) valid(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.tokens[token]
	return ok && time.Now().Before(until)
}

// credentials are those of a role, the same ones until they come near their end.
func (s *Service) credentials(role string) (Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.keys[role]; ok && time.Until(known.Expires) > renew {
		return known, nil
	}
	made, err := s.config.Issue(role, sessionLifetime)
	if err == nil {
		s.keys[role] = made
	}
	return made, err
}

func (s *Service) giveContainer(w http.ResponseWriter, role string) {
	key, err := s.credentials(role)
	if err != nil {
		give(w, http.StatusNotFound, map[string]string{"code": "NoSuchRole", "message": err.Error()})
		return
	}
	give(w, http.StatusOK, map[string]string{
		"AccessKeyId": key.AccessKeyID, "SecretAccessKey": key.SecretAccessKey, "Token": key.Token, "Expiration": key.Expires.UTC().Format(time.RFC3339),
	})
}

func (s *Service) giveDocument(w http.ResponseWriter) {
	i := s.config.Instance()
	give(w, http.StatusOK, map[string]any{
		"accountId": i.Account, "architecture": "x86_64", "availabilityZone": i.Zone, "billingProducts": nil, "devpayProductCodes": nil,
		"marketplaceProductCodes": nil, "imageId": i.Image, "instanceId": i.ID, "instanceType": i.Type, "kernelId": nil,
		"pendingTime": i.Launched.UTC().Format(time.RFC3339), "privateIp": i.Address, "ramdiskId": nil, "region": i.Region, "version": "2017-09-30",
	})
}

func give(w http.ResponseWriter, status int, document any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document)
}

// leaves are the metadata by path.
func (s *Service) leaves(i Instance) map[string]string {
	at := "network/interfaces/macs/" + i.MAC + "/"
	return map[string]string{
		"ami-id": i.Image, "instance-id": i.ID, "instance-type": i.Type, "local-ipv4": i.Address, "local-hostname": i.Name, "hostname": i.Name,
		"mac": i.MAC, "placement/availability-zone": i.Zone, "placement/region": i.Region, "security-groups": strings.Join(i.SecurityGroups, "\n"),
		"services/domain": "amazonaws.com", "services/partition": "aws",
		at + "device-number": "0", at + "interface-id": i.Interface, at + "local-ipv4s": i.Address, at + "mac": i.MAC, at + "owner-id": i.Account,
		at + "subnet-id": i.Subnet, at + "vpc-id": i.VPC, at + "vpc-ipv4-cidr-block": i.CIDR, at + "vpc-ipv4-cidr-blocks": i.CIDR,
		at + "security-group-ids":                   strings.Join(i.SecurityGroups, "\n"),
		"iam/security-credentials/" + s.config.Role: "",
	}
}

// giveMetadata answers with a leaf, or with the names below a path.
func (s *Service) giveMetadata(w http.ResponseWriter, path string) {
	if path == "iam/security-credentials/"+s.config.Role {
		s.giveRole(w)
		return
	}
	leaves := s.leaves(s.config.Instance())
	if text, ok := leaves[path]; ok {
		fmt.Fprint(w, text)
		return
	}
	prefix := strings.TrimSuffix(path, "/") + "/"
	if path == "" {
		prefix = ""
	}
	var names []string
	for leaf := range leaves {
		below, ok := strings.CutPrefix(leaf, prefix)
		if !ok {
			continue
		}
		name, _, folder := strings.Cut(below, "/")
		if folder {
			name += "/"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		http.Error(w, "404 - Not Found", http.StatusNotFound)
		return
	}
	slices.Sort(names)
	fmt.Fprint(w, strings.Join(names, "\n"))
}

func (s *Service) giveRole(w http.ResponseWriter) {
	key, err := s.credentials(s.config.Role)
	if err != nil {
		http.Error(w, "404 - Not Found", http.StatusNotFound)
		return
	}
	give(w, http.StatusOK, map[string]string{
		"Code": "Success", "LastUpdated": time.Now().UTC().Format(time.RFC3339), "Type": "AWS-HMAC", "AccessKeyId": key.AccessKeyID,
		"SecretAccessKey": key.SecretAccessKey, "Token": key.Token, "Expiration": key.Expires.UTC().Format(time.RFC3339),
	})
}
