package dataplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"sync"
)

// Signer signs who users are, in the header X-Amzn-Oidc-Data. Nodes that share one share its key. The zero value is ready to use.
type Signer struct {
	once sync.Once
	key  *ecdsa.PrivateKey
	id   string
}

// begin makes the key when it is needed first.
func (s *Signer) begin() {
	s.once.Do(func() {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err) // impossible: there is always randomness
		}
		s.key, s.id = key, strings.ToLower(rand.Text())
	})
}

// PublicKey is the key with an id, as PEM, with which targets verify what the header says; nil: there is no such key.
func (s *Signer) PublicKey(id string) []byte {
	s.begin()
	if id != s.id {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	if err != nil {
		panic(err) // impossible: the curve is known
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// sign makes the token that tells the target who the user is, signed with ES256.
func (s *Signer) sign(a *Authentication, user *session, balancer string) string {
	s.begin()
	claims := map[string]any{}
	_ = json.Unmarshal(user.Claims, &claims) // it was an object when the session began
	claims["exp"], claims["iss"] = user.Expires, a.Issuer
	header, _ := json.Marshal(map[string]any{
		"typ": "JWT", "kid": s.id, "alg": "ES256", "iss": a.Issuer, "client": a.ClientID, "signer": balancer, "exp": user.Expires,
	})
	payload, _ := json.Marshal(claims)
	text := base64.URLEncoding.EncodeToString(header) + "." + base64.URLEncoding.EncodeToString(payload) // with padding, as AWS does
	sum := sha256.Sum256([]byte(text))
	r, t, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		panic(err) // impossible: the key is a good one
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	t.FillBytes(signature[32:])
	return text + "." + base64.URLEncoding.EncodeToString(signature)
}
