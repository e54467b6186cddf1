package aws

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// This file keeps web pages and other machines away from what needs no signature: the admin API, the metadata service with its keys,
// and calls that are let in unsigned. A browser on this machine reaches every port of loopback for whatever page it shows.

// guard refuses a request for the admin API or the metadata service that is not one of a program on this machine.
func guard(r *http.Request) error {
	if client, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && !client.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s may not be asked from %s: only programs on this machine may", r.URL.Path, client.Addr())
	}
	if !ownHost(r.Host) {
		return fmt.Errorf("%s may not be asked for under the host name %.200q: use the address of the endpoint, or localhost", r.URL.Path, r.Host)
	}
	if fromPage(r) {
		return fmt.Errorf("%s may not be asked for by a web page of another origin", r.URL.Path)
	}
	return nil
}

// ownHost says whether nobody else can own the host of a request: it is an address, or localhost. Any other name can be made to lead here by who
// owns its zone, and his page is then of the same origin as this endpoint.
func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// fromPage says whether a browser has sent a request for a page of another origin. Older ones tell the origin only, and not of each request.
func fromPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	from, err := url.Parse(origin)
	return err != nil || from.Host != r.Host || !ownHost(r.Host)
}
