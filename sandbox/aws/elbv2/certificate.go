package elbv2

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

const maxCertificates = 25 // per load balancer, default ones not counted

var (
	managedARN = regexp.MustCompile(`^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-zA-Z-]+$`)
	serverARN  = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:server-certificate/.+$`)
)

// certificate is what a node shows for the ARN of a certificate: that of the certificate manager, or one that the emulator
// signs itself for a server certificate of IAM, a service that it does not have.
func (s *Service) certificate(arn string) (tls.Certificate, bool) {
	managed := managedARN.MatchString(arn)
	if managed && s.config.Certificate != nil {
		pair, issued, _ := s.config.Certificate(arn)
		return pair, issued
	}
	if !managed && !serverARN.MatchString(arn) {
		return tls.Certificate{}, false
	}
	signed, err := selfSigned()
	if err != nil {
		s.config.Log.Error("cannot make a certificate", "arn", arn, "error", err)
	}
	return signed, err == nil
}

// lookUp asks for the certificates of a request. It must be called without the lock: the certificate manager may look at
// records of Route 53, which in turn may just be asking for a load balancer.
func (s *Service) lookUp(certificates []types.Certificate) map[string]error {
	found := map[string]error{}
	for _, c := range certificates {
		found[deref(c.CertificateArn)] = s.checkCertificate(deref(c.CertificateArn))
	}
	return found
}

// checkCertificate says whether a listener can take a certificate. AWS has no code for one that is not issued yet in its
// model; UnsupportedCertificate is what users see.
func (s *Service) checkCertificate(arn string) error {
	managed := managedARN.MatchString(arn)
	if !managed && !serverARN.MatchString(arn) {
		return wire.Errorf("CertificateNotFound", "Certificate '%.200s' not found", arn)
	}
	if !managed || s.config.Certificate == nil {
		return nil
	}
	pair, issued, known := s.config.Certificate(arn)
	switch {
	case !known:
		return wire.Errorf("CertificateNotFound", "Certificate '%s' not found", arn)
	case !issued || !qualified(pair):
		return wire.Errorf("UnsupportedCertificate", "The certificate '%s' must have a fully-qualified domain name, a supported signature, and a supported key size.", arn)
	}
	return nil
}

// qualified says whether a certificate is for a name with a dot, or for nobody can say which.
func qualified(pair tls.Certificate) bool {
	if pair.Leaf == nil {
		return true
	}
	names := append([]string{pair.Leaf.Subject.CommonName}, pair.Leaf.DNSNames...)
	return slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, ".") })
}

// selfSigned is one certificate for everything, made when it is first needed.
var selfSigned = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Lockstep sandbox"}, DNSNames: []string{"*.elb.amazonaws.com", "localhost"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// AddListenerCertificates adds certificates to choose from by server name.
func (s *Service) AddListenerCertificates(r eventual.Reader, in *elb.AddListenerCertificatesInput) (*elb.AddListenerCertificatesOutput, error) {
	found := s.lookUp(in.Certificates)
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.securedListener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if len(in.Certificates) == 0 {
		return nil, wire.Errorf("ValidationError", "At least one certificate must be specified")
	}
	list := slices.Clone(l.certificates)
	for _, c := range in.Certificates {
		arn := deref(c.CertificateArn)
		if err := found[arn]; err != nil {
			return nil, err
		}
		if !slices.Contains(list, arn) {
			list = append(list, arn)
		}
	}
	count := len(list) - len(l.certificates)
	for _, other := range l.balancer.listeners {
		count += len(other.certificates)
	}
	if count > maxCertificates {
		return nil, wire.Errorf("TooManyCertificates", "The maximum number of certificates of a load balancer, %d, would be exceeded", maxCertificates)
	}
	l.certificates = list
	s.changeCertificates(l, "AddListenerCertificates "+l.arn)
	return &elb.AddListenerCertificatesOutput{Certificates: in.Certificates}, nil
}

func (s *Service) securedListener(r eventual.Reader, arn *string) (*listener, error) {
	l, err := s.listener(r, arn)
	if err != nil {
		return nil, err
	}
	if p := l.value.Get().Protocol; p != types.ProtocolEnumHttps && p != types.ProtocolEnumTls {
		return nil, wire.Errorf("ValidationError", "Listener '%s' has protocol %s, which takes no certificates", l.arn, p)
	}
	return l, nil
}

// changeCertificates brings the listener to the nodes at the pace of certificates.
func (s *Service) changeCertificates(l *listener, what string) {
	document := s.listenerDocument(l)
	s.propagate(l.balancer, change{key: profile.ALBCertificate, what: what, lane: l.arn, apply: func(n *node) {
		n.listeners[l.arn], n.stale = document, true
	}})
}

// RemoveListenerCertificates removes certificates, but not the default one.
func (s *Service) RemoveListenerCertificates(r eventual.Reader, in *elb.RemoveListenerCertificatesInput) (*elb.RemoveListenerCertificatesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.securedListener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	list := slices.Clone(l.certificates)
	for _, c := range in.Certificates {
		arn := deref(c.CertificateArn)
		if arn == deref(l.value.Get().Certificates[0].CertificateArn) && !slices.Contains(list, arn) {
			return nil, wire.Errorf("OperationNotPermitted", "Default certificate '%s' cannot be removed", arn)
		}
		list = slices.DeleteFunc(list, func(have string) bool { return have == arn })
	}
	l.certificates = list
	s.changeCertificates(l, "RemoveListenerCertificates "+l.arn)
	return &elb.RemoveListenerCertificatesOutput{}, nil
}

// DescribeListenerCertificates lists the certificates of a listener. The default one is listed twice,
// also as an ordinary one.
func (s *Service) DescribeListenerCertificates(r eventual.Reader, in *elb.DescribeListenerCertificatesInput) (*elb.DescribeListenerCertificatesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.securedListener(r, in.ListenerArn)
	if err != nil {
		return nil, err
	}
	byDefault := *l.value.Get().Certificates[0].CertificateArn
	all := []types.Certificate{{CertificateArn: new(byDefault), IsDefault: new(true)}, {CertificateArn: new(byDefault), IsDefault: new(false)}}
	for _, arn := range l.certificates {
		if arn != byDefault {
			all = append(all, types.Certificate{CertificateArn: new(arn), IsDefault: new(false)})
		}
	}
	key := func(c types.Certificate) string {
		if *c.IsDefault {
			return "0" + *c.CertificateArn
		}
		return "1" + *c.CertificateArn
	}
	slices.SortFunc(all, func(a, b types.Certificate) int { return cmp.Compare(key(a), key(b)) })
	found, next, err := page(all, key, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeListenerCertificatesOutput{Certificates: found, NextMarker: next}, nil
}
