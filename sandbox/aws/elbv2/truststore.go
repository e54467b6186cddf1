package elbv2

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const maxTrustStores = 20

var trustStoreName = regexp.MustCompile(`^([a-zA-Z0-9]+-)*[a-zA-Z0-9]+$`)

// trustStore is the authorities whose client certificates a listener takes. Guarded by Service.mu.
type trustStore struct {
	value *eventual.Value[types.TrustStore]
	arn   string
	name  string
	tags  map[string]string
	// formerly is what readers may still see of the tags.
	formerly former
	// bundle is where the certificates were read; revocations are the lists that were added, by their ids. What has become of the objects since
	// they were read does not matter.
	bundle      storedObject
	authorities []*x509.Certificate
	revocations map[int64]revocation
	holds       trusted
	// added counts the lists that were ever added.
	added int64
}

// storedObject is an object of S3.
type storedObject struct{ Bucket, Key, Version string }

// location is where AWS says that an object can be fetched. Nobody serves it here.
func (s *Service) location(o storedObject) *string {
	return new(fmt.Sprintf("https://%s.s3.%s.amazonaws.com/%s", o.Bucket, s.config.Region, o.Key))
}

func (s *Service) object(o storedObject) ([]byte, bool) {
	if s.config.Object == nil {
		return nil, false
	}
	return s.config.Object(o.Bucket, o.Key, o.Version)
}

// CreateTrustStore reads the certificates of authorities from S3. The trust store can be used when it is active.
func (s *Service) CreateTrustStore(_ eventual.Reader, in *elb.CreateTrustStoreInput) (*elb.CreateTrustStoreOutput, error) {
	bundle := storedObject{deref(in.CaCertificatesBundleS3Bucket), deref(in.CaCertificatesBundleS3Key), deref(in.CaCertificatesBundleS3ObjectVersion)}
	certificates, broken := s.authorities(bundle)
	count := int32(len(certificates))
	s.mu.Lock()
	defer s.mu.Unlock()
	name := deref(in.Name)
	if len(name) > 32 || !trustStoreName.MatchString(name) {
		return nil, wire.Errorf("ValidationError", "The trust store name '%.40s' must have 1 to 32 letters, digits and single hyphens and no hyphen at either end", name)
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	for _, other := range s.trustStores {
		if other.name == name {
			return nil, wire.Errorf("DuplicateTrustStoreName", "A trust store with the name '%s' already exists", name)
		}
	}
	if broken != nil {
		return nil, broken
	}
	if len(s.trustStores) >= maxTrustStores {
		return nil, wire.Errorf("TooManyTrustStores", "The maximum number of trust stores, %d, has been reached", maxTrustStores)
	}
	t := &trustStore{arn: s.arn("truststore/" + name + "/" + s.config.IDs.Hex(16, "truststore", name)), name: name, tags: tags, bundle: bundle, authorities: certificates, revocations: map[int64]revocation{}}
	t.renew()
	v := types.TrustStore{
		Name: new(name), TrustStoreArn: new(t.arn), Status: types.TrustStoreStatusCreating, NumberOfCaCertificates: &count, TotalRevokedEntries: new(int64(0)),
	}
	t.value = eventual.New(s.model, "truststore/"+name, v)
	s.trustStores[t.arn] = t
	s.makeReady(t)
	return &elb.CreateTrustStoreOutput{TrustStores: []types.TrustStore{v}}, nil
}

// makeReady lets a trust store become active. Nobody has told how long it takes; certificates are the nearest that have a pace.
func (s *Service) makeReady(t *trustStore) {
	s.after(s.config.Draws.Once(profile.ALBCertificate, "truststore/"+t.arn), func() []*node {
		ready := t.value.Get()
		ready.Status = types.TrustStoreStatusActive
		t.value.Put(ready)
		return nil
	})
}

// authorities reads a bundle of certificates. It must be called without the lock: a bundle can be megabytes.
func (s *Service) authorities(bundle storedObject) ([]*x509.Certificate, error) {
	if bundle.Bucket == "" || bundle.Key == "" {
		return nil, wire.Errorf("ValidationError", "The S3 bucket and the S3 key of the CA certificates bundle must be specified")
	}
	text, ok := s.object(bundle)
	if !ok {
		return nil, wire.Errorf("CaCertificatesBundleNotFound", "The CA certificates bundle s3://%s/%s was not found", bundle.Bucket, bundle.Key)
	}
	certificates, err := parseAuthorities(text)
	if err != nil {
		return nil, wire.Errorf("InvalidCaCertificatesBundle", "The CA certificates bundle s3://%s/%s is not valid: %v", bundle.Bucket, bundle.Key, err)
	}
	return certificates, nil
}

// trustStore finds the trust store that a request is about.
func (s *Service) trustStore(r eventual.Reader, arn *string) (*trustStore, error) {
	t := s.trustStores[deref(arn)]
	switch {
	case deref(arn) == "":
		return nil, wire.Errorf("ValidationError", "A trust store ARN must be specified")
	case !strings.Contains(*arn, ":truststore/"):
		return nil, wire.Errorf("ValidationError", "'%.200s' is not a valid trust store ARN", *arn)
	case t == nil || !t.value.Found(r):
		return nil, wire.Errorf("TrustStoreNotFound", "Trust store '%s' not found", *arn)
	}
	return t, nil
}

// ModifyTrustStore replaces the certificates of a trust store.
func (s *Service) ModifyTrustStore(r eventual.Reader, in *elb.ModifyTrustStoreInput) (*elb.ModifyTrustStoreOutput, error) {
	bundle := storedObject{deref(in.CaCertificatesBundleS3Bucket), deref(in.CaCertificatesBundleS3Key), deref(in.CaCertificatesBundleS3ObjectVersion)}
	certificates, broken := s.authorities(bundle)
	count := int32(len(certificates))
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	if broken != nil {
		return nil, broken
	}
	t.bundle, t.authorities = bundle, certificates
	v := t.value.Get()
	v.NumberOfCaCertificates = &count
	t.value.Put(v)
	s.changeTrustStore(t, "ModifyTrustStore "+t.arn)
	return &elb.ModifyTrustStoreOutput{TrustStores: []types.TrustStore{v}}, nil
}

// DeleteTrustStore deletes a trust store that no listener uses.
func (s *Service) DeleteTrustStore(r eventual.Reader, in *elb.DeleteTrustStoreInput) (*elb.DeleteTrustStoreOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	if users := s.trusting(t.arn); len(users) > 0 {
		return nil, wire.Errorf("TrustStoreInUse", "Trust store '%s' is in use by listener '%s'", t.arn, users[0])
	}
	delete(s.trustStores, t.arn)
	return &elb.DeleteTrustStoreOutput{}, nil
}

// trusting lists the listeners that use a trust store, sorted.
func (s *Service) trusting(arn string) []string {
	var users []string
	for _, l := range s.listeners {
		if m := l.value.Get().MutualAuthentication; m != nil && deref(m.TrustStoreArn) == arn {
			users = append(users, l.arn)
		}
	}
	slices.Sort(users)
	return users
}

// DescribeTrustStores lists trust stores: all, by name or by ARN.
func (s *Service) DescribeTrustStores(r eventual.Reader, in *elb.DescribeTrustStoresInput) (*elb.DescribeTrustStoresOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(in.TrustStoreArns) > 0 && len(in.Names) > 0 {
		return nil, wire.Errorf("ValidationError", "Trust store names and trust store ARNs cannot be specified at the same time")
	}
	all := []types.TrustStore{}
	byName := map[string]types.TrustStore{}
	for _, t := range s.trustStores {
		if v, ok := t.value.Read(r); ok {
			all = append(all, v)
			byName[t.name], byName[t.arn] = v, v
		}
	}
	if wanted := slices.Concat(in.TrustStoreArns, in.Names); len(wanted) > 0 {
		all = nil
		for _, id := range wanted {
			v, ok := byName[id]
			if !ok {
				return nil, wire.Errorf("TrustStoreNotFound", "One or more trust stores not found: '%.200s'", id)
			}
			all = append(all, v)
		}
	}
	key := func(v types.TrustStore) string { return *v.TrustStoreArn }
	slices.SortFunc(all, func(a, b types.TrustStore) int { return cmp.Compare(key(a), key(b)) })
	found, next, err := page(all, key, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeTrustStoresOutput{TrustStores: found, NextMarker: next}, nil
}

// DescribeTrustStoreAssociations lists the listeners that use a trust store.
func (s *Service) DescribeTrustStoreAssociations(r eventual.Reader, in *elb.DescribeTrustStoreAssociationsInput) (*elb.DescribeTrustStoreAssociationsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	found, next, err := page(s.trusting(t.arn), func(arn string) string { return arn }, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	out := &elb.DescribeTrustStoreAssociationsOutput{TrustStoreAssociations: []types.TrustStoreAssociation{}, NextMarker: next}
	for _, arn := range found {
		out.TrustStoreAssociations = append(out.TrustStoreAssociations, types.TrustStoreAssociation{ResourceArn: new(arn)})
	}
	return out, nil
}

// GetTrustStoreCaCertificatesBundle tells where the certificates of a trust store were read.
func (s *Service) GetTrustStoreCaCertificatesBundle(r eventual.Reader, in *elb.GetTrustStoreCaCertificatesBundleInput) (*elb.GetTrustStoreCaCertificatesBundleOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	return &elb.GetTrustStoreCaCertificatesBundleOutput{Location: s.location(t.bundle)}, nil
}

// GetResourcePolicy would show with whom a trust store is shared. None is: there is one account.
func (s *Service) GetResourcePolicy(_ eventual.Reader, in *elb.GetResourcePolicyInput) (*elb.GetResourcePolicyOutput, error) {
	return nil, wire.Errorf("ResourceNotFound", "'%.200s' has no resource policy", deref(in.ResourceArn))
}

// DeleteSharedTrustStoreAssociation would end the use of a trust store by another account. There is none.
func (s *Service) DeleteSharedTrustStoreAssociation(r eventual.Reader, in *elb.DeleteSharedTrustStoreAssociationInput) (*elb.DeleteSharedTrustStoreAssociationOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.trustStore(r, in.TrustStoreArn)
	if err != nil {
		return nil, err
	}
	if slices.Contains(s.trusting(t.arn), deref(in.ResourceArn)) {
		return nil, wire.Errorf("DeleteAssociationSameAccount", "The association of '%s' is of the same account as its trust store", *in.ResourceArn)
	}
	return nil, wire.Errorf("AssociationNotFound", "Trust store '%s' is not associated with '%.200s'", t.arn, deref(in.ResourceArn))
}

// checkMutual validates what a listener does with client certificates, and fills in defaults.
func (s *Service) checkMutual(r eventual.Reader, v *types.Listener) error {
	if v.MutualAuthentication == nil {
		if v.Protocol == types.ProtocolEnumHttps {
			v.MutualAuthentication = &types.MutualAuthenticationAttributes{Mode: new("off")}
		}
		return nil
	}
	m := *v.MutualAuthentication
	mode := cmp.Or(deref(m.Mode), "off")
	switch {
	case v.Protocol != types.ProtocolEnumHttps:
		return wire.Errorf("InvalidConfigurationRequest", "Mutual authentication can be specified for HTTPS listeners only, not for %s", v.Protocol)
	case !slices.Contains([]string{"off", "passthrough", "verify"}, mode):
		return wire.Errorf("ValidationError", "Mutual authentication mode '%.40s' must be off, passthrough or verify", mode)
	case mode != "verify" && (m.TrustStoreArn != nil || deref(m.IgnoreClientCertificateExpiry) || m.AdvertiseTrustStoreCaNames == types.AdvertiseTrustStoreCaNamesEnumOn):
		return wire.Errorf("ValidationError", "A trust store and what is done with its certificates can be specified for mode verify only, not for %s", mode)
	case m.AdvertiseTrustStoreCaNames != "" && !slices.Contains(m.AdvertiseTrustStoreCaNames.Values(), m.AdvertiseTrustStoreCaNames):
		return invalidEnum("mutualAuthentication.advertiseTrustStoreCaNames", m.AdvertiseTrustStoreCaNames)
	}
	if mode != "verify" {
		v.MutualAuthentication = &types.MutualAuthenticationAttributes{Mode: new(mode)}
		return nil
	}
	if deref(m.TrustStoreArn) == "" {
		return wire.Errorf("ValidationError", "A trust store must be specified for mutual authentication mode verify")
	}
	t := s.trustStores[*m.TrustStoreArn]
	if t == nil || !t.value.Found(r) {
		return wire.Errorf("TrustStoreNotFound", "Trust store '%.200s' not found", *m.TrustStoreArn)
	}
	if t.value.Get().Status != types.TrustStoreStatusActive {
		return wire.Errorf("TrustStoreNotReady", "Trust store '%s' is not active yet", t.arn)
	}
	v.MutualAuthentication = &types.MutualAuthenticationAttributes{
		Mode: new(mode), TrustStoreArn: new(t.arn), IgnoreClientCertificateExpiry: new(deref(m.IgnoreClientCertificateExpiry)),
		AdvertiseTrustStoreCaNames: cmp.Or(m.AdvertiseTrustStoreCaNames, types.AdvertiseTrustStoreCaNamesEnumOff),
	}
	return nil
}
