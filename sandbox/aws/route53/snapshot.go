package route53

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// kept is the state of the service as it is kept on the disk.
type kept struct {
	Zones   []keptZone            `json:"zones"`
	Changes map[string]keptChange `json:"changes"`
}

type keptChange struct {
	Info   types.ChangeInfo `json:"info"`
	InSync time.Time        `json:"insync"`
}

type keptZone struct {
	Zone        types.HostedZone  `json:"zone"`
	NameServers []string          `json:"nameServers"`
	VPCs        []types.VPC       `json:"vpcs"`
	Tags        map[string]string `json:"tags"`
	Records     []keptSet         `json:"records"`
	// Versions are those that the name servers have and are about to have.
	Versions []keptVersion `json:"versions"`
}

type keptVersion struct {
	From    time.Time `json:"from"`
	Records []keptSet `json:"records"`
}

type keptSet struct {
	Set   types.ResourceRecordSet `json:"set"`
	Since time.Time               `json:"since"`
}

// remembered is for how long after it is in sync a change can be asked for after a restart.
const remembered = time.Hour

// Export tells everything that the service has.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	k := kept{Changes: map[string]keptChange{}}
	for id, c := range s.changes {
		if now.Sub(c.insync) < remembered {
			k.Changes[id] = keptChange{c.info, c.insync}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.zones)) {
		z := s.zones[id]
		z.served(now) // forgets what is over
		one := keptZone{Zone: z.HostedZone, NameServers: z.nameServers, VPCs: z.vpcs, Tags: z.tags, Records: z.records.kept()}
		for _, v := range z.versions {
			one.Versions = append(one.Versions, keptVersion{v.from, v.records.kept()})
		}
		k.Zones = append(k.Zones, one)
	}
	return json.Marshal(k)
}

func (r records) kept() []keptSet {
	list := make([]keptSet, 0, len(r))
	for _, key := range slices.Sorted(maps.Keys(r)) {
		set := r[key]
		list = append(list, keptSet{set.ResourceRecordSet, set.since})
	}
	return list
}

func restored(list []keptSet) records {
	all := make(records, len(list))
	for _, one := range list {
		set := &recordSet{one.Set, one.Since}
		all[set.key()] = set
	}
	return all
}

// Import takes over what another service has exported. This one must have nothing yet.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var k kept
	if err := snapshot.Decode(text, &k); err != nil {
		return err
	}
	for id, c := range k.Changes {
		s.changes[id] = change{c.Info, c.InSync}
	}
	for _, one := range k.Zones {
		z := &zone{HostedZone: one.Zone, nameServers: one.NameServers, vpcs: one.VPCs, tags: one.Tags, records: restored(one.Records)}
		for _, v := range one.Versions {
			z.versions = append(z.versions, version{v.From, restored(v.Records)})
		}
		s.zones[strings.TrimPrefix(deref(z.Id), "/hostedzone/")] = z
	}
	return nil
}
