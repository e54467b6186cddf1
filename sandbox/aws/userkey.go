package aws

import (
	"net/http"
	"strings"
)

// userKeyHost begins the host name at which AWS gives out the keys with which targets verify who a user is.
const userKeyHost = "public-keys.auth.elb."

// serveUserKey gives out the public key of the header X-Amzn-Oidc-Data, by its id, as PEM.
func (e *Emulator) serveUserKey(w http.ResponseWriter, id string) {
	key := e.users.PublicKey(id)
	if key == nil {
		http.Error(w, "there is no such key", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(key)
}

// asksForUserKey says whether a request is for the host of keys, and for which one. Over a path of the admin API the same is to be had without the
// name.
func asksForUserKey(r *http.Request) (id string, ok bool) {
	return strings.TrimPrefix(r.URL.Path, "/"), r.Method == http.MethodGet && strings.HasPrefix(r.Host, userKeyHost)
}
