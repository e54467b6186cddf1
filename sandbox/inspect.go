package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// Overview is what a running sandbox has, as its emulated AWS tells.
type Overview struct {
	LoadBalancers []Balancer `json:"loadBalancers"`
	// Calls is how many AWS calls were made; Unmodelled counts those of operations that do not exist here.
	Calls      int              `json:"calls"`
	Unmodelled []UnmodelledCall `json:"unmodelled,omitempty"`
}

// UnmodelledCall is an operation ("service:Operation") that was asked for and is not modelled.
type UnmodelledCall struct {
	Operation string `json:"operation"`
	Calls     int    `json:"calls"`
}

// Balancer is a load balancer and where it can really be reached.
type Balancer struct {
	Name    string `json:"name"`
	DNSName string `json:"dnsName"`
	State   string `json:"state"`
	// URLs has one entry for each zone's node and listener.
	URLs []string `json:"urls"`
}

// Inspect asks a running sandbox, from any process.
func Inspect(ctx context.Context, state State) (Overview, error) {
	var endpoints []aws.Endpoint
	var counts struct {
		Operations  map[string]journal.Count `json:"operations"`
		NotModelled map[string]int           `json:"notModelled"`
	}
	if err := ask(ctx, state, "loadbalancers", &endpoints); err != nil {
		return Overview{}, err
	}
	if err := ask(ctx, state, "counts", &counts); err != nil {
		return Overview{}, err
	}
	o := Overview{LoadBalancers: []Balancer{}}
	for _, name := range slices.Sorted(maps.Keys(counts.NotModelled)) {
		o.Unmodelled = append(o.Unmodelled, UnmodelledCall{name, counts.NotModelled[name]})
	}
	for _, count := range counts.Operations {
		o.Calls += count.Calls
	}
	for _, e := range endpoints {
		o.LoadBalancers = append(o.LoadBalancers, balancer(e))
	}
	return o, nil
}

func balancer(e aws.Endpoint) Balancer {
	b := Balancer{Name: e.Name, DNSName: e.DNSName, State: "provisioning"}
	if e.Active {
		b.State = "active"
	}
	for _, node := range e.Nodes {
		for _, port := range slices.Sorted(maps.Keys(node.Real)) {
			scheme := "http"
			if port == 443 {
				scheme = "https"
			}
			b.URLs = append(b.URLs, fmt.Sprintf("%s://%s", scheme, node.Real[port]))
		}
	}
	return b
}

func ask(ctx context.Context, state State, what string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, state.AWSEndpoint+"/_lockstep/"+what, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("sandbox %s does not answer: %w", state.Name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("sandbox %s answers %s", state.Name, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("sandbox %s answers with something else: %w", state.Name, err)
	}
	return nil
}
