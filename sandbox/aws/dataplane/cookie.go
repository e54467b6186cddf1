package dataplane

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The stickiness cookies. Each comes in two copies, the second one for cross-origin requests.
const (
	groupCookie      = "AWSALBTG"
	groupCookieCORS  = "AWSALBTGCORS"
	targetCookie     = "AWSALB"
	targetCookieCORS = "AWSALBCORS"
	// appCookie goes with the target's own cookie. A longer value would be spread over AWSALBAPP-1 and so on; it never is.
	appCookie = "AWSALBAPP-0"
	// cookieExpires is the Expires attribute of all of them, whatever duration is set; the real duration is inside.
	cookieExpires = 7 * 24 * time.Hour
)

// cookieKey seals cookies so that they are opaque and cannot be forged. All nodes of a load balancer have the same.
type cookieKey struct{ cipher.AEAD }

func newCookieKey(loadBalancer string) cookieKey {
	sum := sha256.Sum256([]byte("stickiness of " + loadBalancer))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		panic(err) // impossible: the key has the right size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // impossible: the block has the right size
	}
	return cookieKey{aead}
}

// seal returns a cookie value that holds parts until then. Parts hold no newline.
func (k cookieKey) seal(name string, until time.Time, parts ...string) string {
	nonce := make([]byte, k.NonceSize())
	_, _ = rand.Read(nonce)
	plain := strconv.FormatInt(until.Unix(), 10) + "\n" + strings.Join(parts, "\n")
	return base64.RawURLEncoding.EncodeToString(k.Seal(nonce, nonce, []byte(plain), []byte(name)))
}

// open returns the parts of the cookie that a request carries, nil when there is none that is valid now.
func (k cookieKey) open(r *http.Request, names [2]string, now time.Time) []string {
	for _, name := range names {
		if name == "" {
			continue
		}
		c, err := r.Cookie(name)
		if err != nil {
			continue
		}
		if parts := k.unseal(names[0], c.Value, now); parts != nil {
			return parts
		}
	}
	return nil
}

// unseal returns the parts of a value that is valid now, nil when it is not.
func (k cookieKey) unseal(name, value string, now time.Time) []string {
	sealed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(sealed) < k.NonceSize() {
		return nil
	}
	plain, err := k.Open(nil, sealed[:k.NonceSize()], sealed[k.NonceSize():], []byte(name))
	if err != nil {
		return nil
	}
	parts := strings.Split(string(plain), "\n")
	until, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || now.Unix() >= until {
		return nil
	}
	return parts[1:]
}

// setCookies adds both copies of a stickiness cookie to a response, or the only one.
func (k cookieKey) setCookies(h http.Header, names [2]string, now time.Time, lasts time.Duration, parts ...string) {
	value := k.seal(names[0], now.Add(lasts), parts...)
	expires := now.Add(cookieExpires).UTC().Format(http.TimeFormat)
	h.Add("Set-Cookie", names[0]+"="+value+"; Expires="+expires+"; Path=/")
	if names[1] == "" {
		return
	}
	h.Add("Set-Cookie", names[1]+"="+value+"; Expires="+expires+"; Path=/; SameSite=None; Secure")
}
