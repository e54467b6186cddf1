package elbv2

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// Files of megabytes are read and parsed while the rest of the account goes on, and no more of them than a trust store can have.
func TestObjectsAreReadWithoutTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		list := revoked(t, 60_000)
		read, held := 0, 0
		a.Service.config.Object = func(_, key, _ string) ([]byte, bool) {
			read++
			if !a.Service.mu.TryLock() {
				held++
				return list, key == "list"
			}
			a.Service.mu.Unlock()
			return list, key == "list"
		}
		store := &trustStore{arn: a.arn("truststore/ca/1"), name: "ca", revocations: map[int64]revocation{}}
		store.value = eventual.Settled(a.model, "truststore/ca", types.TrustStore{Name: new("ca"), TrustStoreArn: &store.arn, TotalRevokedEntries: new(int64(400_000))})
		a.trustStores[store.arn] = store

		_, err := a.CreateTrustStore(reader, &elb.CreateTrustStoreInput{Name: new("new"), CaCertificatesBundleS3Bucket: new("b"), CaCertificatesBundleS3Key: new("k")})
		if got := code(err); got != "CaCertificatesBundleNotFound" {
			t.Errorf("create: %q", got)
		}
		_, err = a.ModifyTrustStore(reader, &elb.ModifyTrustStoreInput{TrustStoreArn: &store.arn, CaCertificatesBundleS3Bucket: new("b"), CaCertificatesBundleS3Key: new("k")})
		if got := code(err); got != "CaCertificatesBundleNotFound" {
			t.Errorf("modify: %q", got)
		}
		read = 0
		add := func(arn string, n int) string {
			in := &elb.AddTrustStoreRevocationsInput{TrustStoreArn: &arn}
			for range n {
				in.RevocationContents = append(in.RevocationContents, types.RevocationContent{S3Bucket: new("bucket"), S3Key: new("list")})
			}
			_, err := a.AddTrustStoreRevocations(reader, in)
			return code(err)
		}
		if got := add(store.arn, 100); got != "TooManyTrustStoreRevocationEntries" || read > 9 {
			t.Errorf("100 lists of 60000: %q after %d were read", got, read)
		}
		if got := add(store.arn+"0", 1); got != "TrustStoreNotFound" {
			t.Errorf("a list of no trust store: %q", got)
		}
		if got := add(store.arn, 1); got != "" {
			t.Errorf("a list: %q", got)
		}
		if got := add(store.arn, 1); got != "TooManyTrustStoreRevocationEntries" {
			t.Errorf("one more list: %q", got)
		}
		if held > 0 {
			t.Errorf("%d objects were read under the lock", held)
		}
	})
}

// revoked is a list of n revoked certificates.
func revoked(t *testing.T, n int) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for i := range n {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(int64(i + 1)), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
