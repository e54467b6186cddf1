package aws

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// adminPath begins every path of the admin API; AWS has no such path.
const adminPath = "/_lockstep/"

// Endpoint is where a load balancer can really be reached.
type Endpoint struct {
	ARN     string         `json:"arn"`
	Name    string         `json:"name"`
	DNSName string         `json:"dnsName"`
	Active  bool           `json:"active"`
	Nodes   []EndpointNode `json:"nodes"`
}

// EndpointNode is one node: its address in the VPC, and per listener port the real address.
type EndpointNode struct {
	Zone    string                    `json:"zone"`
	Address netip.Addr                `json:"address"`
	Real    map[uint16]netip.AddrPort `json:"real"`
}

// Endpoints lists all load balancers with the loopback addresses of their listeners.
func (e *Emulator) Endpoints() []Endpoint {
	list := []Endpoint{}
	for _, b := range e.elbv2.Balancers() {
		one := Endpoint{ARN: b.ARN, Name: b.Name, DNSName: b.DNSName, Active: b.Active}
		for _, n := range b.Nodes {
			node := EndpointNode{Zone: n.Zone, Address: n.Address, Real: map[uint16]netip.AddrPort{}}
			for _, port := range b.Ports {
				node.Real[port] = e.space.Real(netip.AddrPortFrom(n.Address, port))
			}
			one.Nodes = append(one.Nodes, node)
		}
		list = append(list, one)
	}
	return list
}

// adminHandler serves what AWS has no API for:
//
//	GET    /_lockstep/journal?after=N        records after sequence N as lines of JSON; &follow=1 for all to come;
//	                                         &operation=, event=, caller=, resource=, failed=1 choose (journal.Filter)
//	GET    /_lockstep/counts                 calls and errors per operation, and calls that are not modelled
//	GET    /_lockstep/loadbalancers          load balancers with their real addresses
//	GET    /_lockstep/applied                what each node has taken so far
//	GET    /_lockstep/stats                  what each node has served
//	GET    /_lockstep/faults                 the faults in force
//	POST   /_lockstep/faults                 puts a fault into force; answers with its id
//	DELETE /_lockstep/faults[/ID]            ends one fault or all
//	GET    /_lockstep/public-keys/ID         the key, as PEM, with which targets verify X-Amzn-Oidc-Data
//	GET    /_lockstep/profile                how slow AWS is at the moment: profile, scale, seed
//	PUT    /_lockstep/profile                sets the profile: YAML, whole or over a base
//	PUT    /_lockstep/scale                  sets the factor on every delay: {"scale": 0.5}
//	PUT    /_lockstep/identities             replaces users and roles: YAML (Identities), with the policies in it
//	POST   /_lockstep/reset                  empties the account, then makes what the fixture (YAML) in the body says
//	GET    /_lockstep/hosts                  programs from outside that can be targets
//	POST   /_lockstep/hosts                  adds one, or changes its ports; answers with its instance and address
//	DELETE /_lockstep/hosts/NAME             removes one
//	PUT    /_lockstep/clusters/NAME          lets a cluster of another process run its nodes here; ?sandbox= says in which sandbox
//	                                         it runs, DELETE ends that
//	GET    /_lockstep/clusters/NAME/instances
//	                                         how its nodes are: running, stopped, terminated
//	POST   /_lockstep/clusters/NAME/instances, /_lockstep/instances/ID/addresses;
//	DELETE /_lockstep/instances/ID, /_lockstep/addresses/A
//	                                         its nodes, and the addresses of its pods
//	PUT    /_lockstep/objects/BUCKET/KEY     keeps the body as an object of S3, for trust stores
func (e *Emulator) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+adminPath+"journal", e.serveJournal)
	mux.HandleFunc("GET "+adminPath+"counts", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"operations": e.journal.Counts(), "notModelled": e.NotModelled()})
	})
	mux.HandleFunc("GET "+adminPath+"loadbalancers", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, e.Endpoints()) })
	mux.HandleFunc("GET "+adminPath+"applied", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, listed(e.Applied())) })
	mux.HandleFunc("GET "+adminPath+"stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, listed(e.Stats())) })
	mux.HandleFunc("GET "+adminPath+"public-keys/{id}", func(w http.ResponseWriter, r *http.Request) { e.serveUserKey(w, r.PathValue("id")) })
	mux.HandleFunc("GET "+adminPath+"faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, e.faults.List()) })
	mux.HandleFunc("POST "+adminPath+"faults", e.addFault)
	mux.HandleFunc("DELETE "+adminPath+"faults", func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range e.faults.List() {
			e.EndFault(f.ID)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE "+adminPath+"faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !e.EndFault(r.PathValue("id")) {
			http.Error(w, fmt.Sprintf("there is no fault %q", r.PathValue("id")), http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET "+adminPath+"profile", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, e.Tempo()) })
	mux.HandleFunc("PUT "+adminPath+"profile", e.setProfile)
	mux.HandleFunc("PUT "+adminPath+"scale", e.setScale)
	mux.HandleFunc("PUT "+adminPath+"identities", e.setIdentities)
	mux.HandleFunc("POST "+adminPath+"reset", e.serveReset)
	mux.HandleFunc("GET "+adminPath+"hosts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, e.Hosts()) })
	mux.HandleFunc("POST "+adminPath+"hosts", e.postHost)
	mux.HandleFunc("DELETE "+adminPath+"hosts/{name}", e.deleteHost)
	e.clusterHandler(mux)
	mux.HandleFunc("PUT "+adminPath+"objects/{bucket}/{key...}", e.putObject)
	return mux
}

// listed is all, and in JSON a list even when there is nothing.
func listed[T any](all []T) []T { return append([]T{}, all...) }

func (e *Emulator) addFault(w http.ResponseWriter, r *http.Request) {
	var f fault.Fault
	err := readJSON(w, r, &f)
	id := ""
	if err == nil {
		id, err = e.AddFault(f)
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("cannot add the fault: %v", err), http.StatusBadRequest)
		return
	}
	writeJSON(w, map[string]string{"id": id})
}

// readerPatience is how long a reader of the journal may not read: who has stopped without going away is given up, so that nothing is kept
// for him for ever.
const readerPatience = 5 * time.Minute

// serveJournal writes records as lines of JSON, and goes on as they come if it is asked to follow.
func (e *Emulator) serveJournal(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	after, err := strconv.ParseUint(query.Get("after"), 10, 64)
	if err != nil && query.Has("after") {
		http.Error(w, fmt.Sprintf("after=%q is no sequence number", query.Get("after")), http.StatusBadRequest)
		return
	}
	filter, err := journal.FilterOf(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	lines := json.NewEncoder(w)
	if !query.Has("follow") {
		for _, record := range e.journal.Since(after) {
			if filter.Takes(record) {
				_ = lines.Encode(record)
			}
		}
		return
	}
	kept, later, stop := e.journal.Follow(after, 10_000)
	defer stop()
	flush := http.NewResponseController(w)
	_ = flush.SetWriteDeadline(time.Now().Add(readerPatience))
	for _, record := range kept {
		if filter.Takes(record) {
			_ = lines.Encode(record)
		}
	}
	_ = flush.Flush()
	for {
		select {
		case record, open := <-later:
			_ = flush.SetWriteDeadline(time.Now().Add(readerPatience))
			if !open {
				panic(http.ErrAbortHandler) // a stream that just ended would look as if it were complete
			}
			if filter.Takes(record) && lines.Encode(record) != nil || len(later) == 0 && flush.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-e.closing:
			return
		}
	}
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	indented := json.NewEncoder(w)
	indented.SetIndent("", "  ")
	_ = indented.Encode(value)
}
