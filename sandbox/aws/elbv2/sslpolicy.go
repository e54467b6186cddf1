package elbv2

import (
	"cmp"
	"slices"
	"strings"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Security policies are names with what AWS says of them. The local TLS library decides what connections use.

// Families of ciphers, each in the order of preference.
var (
	ciphers13 = []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
	forward12 = []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	}
	forward12CBC = []string{"ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384"}
	forwardSHA   = []string{"ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES256-SHA"}
	static12     = []string{"AES128-GCM-SHA256", "AES128-SHA256", "AES256-GCM-SHA384", "AES256-SHA256"}
	staticSHA    = []string{"AES128-SHA", "AES256-SHA"}
)

const (
	tls10 = iota
	tls11
	tls12
	tls13
)

// suite makes a policy that takes TLS versions from the oldest to the newest.
func suite(name string, oldest, newest int, families ...[]string) types.SslPolicy {
	p := types.SslPolicy{Name: &name, SupportedLoadBalancerTypes: []string{"application", "network"}, Ciphers: []types.Cipher{}}
	for version := newest; version >= oldest; version-- {
		p.SslProtocols = append(p.SslProtocols, []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}[version])
	}
	for i, cipher := range slices.Concat(families...) {
		p.Ciphers = append(p.Ciphers, types.Cipher{Name: new(cipher), Priority: new(int32(i + 1))})
	}
	return p
}

// sslPolicies are all, sorted by name.
var sslPolicies = func() []types.SslPolicy {
	every := slices.Concat(forward12, forward12CBC, forwardSHA)
	list := []types.SslPolicy{
		suite("ELBSecurityPolicy-2016-08", tls10, tls12, every, static12, staticSHA),
		suite("ELBSecurityPolicy-TLS-1-1-2017-01", tls11, tls12, every, static12, staticSHA),
		suite("ELBSecurityPolicy-TLS-1-2-2017-01", tls12, tls12, forward12, forward12CBC, static12),
		suite("ELBSecurityPolicy-TLS-1-2-Ext-2018-06", tls12, tls12, every, static12, staticSHA),
		suite("ELBSecurityPolicy-FS-2018-06", tls10, tls12, every),
		suite("ELBSecurityPolicy-FS-1-1-2019-08", tls11, tls12, every),
		suite("ELBSecurityPolicy-FS-1-2-2019-08", tls12, tls12, every),
		suite("ELBSecurityPolicy-FS-1-2-Res-2019-08", tls12, tls12, forward12, forward12CBC),
		suite("ELBSecurityPolicy-FS-1-2-Res-2020-10", tls12, tls12, forward12),
	}
	for _, kind := range []string{"2021-06", "FIPS-2023-04", "PQ-2025-09", "FIPS-PQ-2025-09"} {
		modern := ciphers13
		if strings.HasPrefix(kind, "FIPS") {
			modern = ciphers13[:2] // without ChaCha20
		}
		list = append(list,
			suite("ELBSecurityPolicy-TLS13-1-3-"+kind, tls13, tls13, modern),
			suite("ELBSecurityPolicy-TLS13-1-2-"+kind, tls12, tls13, modern, forward12, forward12CBC),
			suite("ELBSecurityPolicy-TLS13-1-2-Res-"+kind, tls12, tls13, modern, forward12),
			suite("ELBSecurityPolicy-TLS13-1-2-Ext1-"+kind, tls12, tls13, modern, forward12, forward12CBC, static12),
			suite("ELBSecurityPolicy-TLS13-1-2-Ext2-"+kind, tls12, tls13, modern, every, static12, staticSHA),
			suite("ELBSecurityPolicy-TLS13-1-0-"+kind, tls10, tls13, modern, every, static12, staticSHA),
		)
		if !strings.Contains(kind, "PQ") {
			list = append(list, suite("ELBSecurityPolicy-TLS13-1-1-"+kind, tls11, tls13, modern, every, static12, staticSHA))
		}
		if strings.HasPrefix(kind, "FIPS") {
			list = append(list, suite("ELBSecurityPolicy-TLS13-1-2-Ext0-"+kind, tls12, tls13, modern, every))
		}
	}
	slices.SortFunc(list, func(a, b types.SslPolicy) int { return cmp.Compare(*a.Name, *b.Name) })
	return list
}()

// DescribeSSLPolicies lists security policies, all or by name, those of a type of load balancers or of all.
func (s *Service) DescribeSSLPolicies(_ eventual.Reader, in *elb.DescribeSSLPoliciesInput) (*elb.DescribeSSLPoliciesOutput, error) {
	if in.LoadBalancerType != "" && !slices.Contains(in.LoadBalancerType.Values(), in.LoadBalancerType) {
		return nil, invalidEnum("loadBalancerType", in.LoadBalancerType)
	}
	all := slices.Clone(sslPolicies)
	for _, name := range in.Names {
		if !slices.ContainsFunc(all, func(p types.SslPolicy) bool { return *p.Name == name }) {
			return nil, wire.Errorf("SSLPolicyNotFound", "SSL policy '%.100s' not found", name)
		}
	}
	all = slices.DeleteFunc(all, func(p types.SslPolicy) bool {
		return len(in.Names) > 0 && !slices.Contains(in.Names, *p.Name) ||
			in.LoadBalancerType != "" && !slices.Contains(p.SupportedLoadBalancerTypes, string(in.LoadBalancerType))
	})
	found, next, err := page(all, func(p types.SslPolicy) string { return *p.Name }, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	return &elb.DescribeSSLPoliciesOutput{SslPolicies: found, NextMarker: next}, nil
}
