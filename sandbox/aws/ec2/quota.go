package ec2

import "fmt"

// Quotas are the numbers of things that an account may have. A zero stands for AWS's default.
type Quotas struct {
	VPCs               int // per region, 5
	SubnetsPerVPC      int // 200
	RouteTablesPerVPC  int // 200
	RoutesPerTable     int // 50
	InternetGateways   int // per region, 5
	Addresses          int // Elastic IP addresses per region, 5
	NetworkInterfaces  int // per region, 5000
	SecurityGroups     int // per region, 2500
	RulesPerGroup      int // of each direction and each IP version, 60
	GroupsPerInterface int // 5, at most 16; together with RulesPerGroup at most 1000
	PrefixLists        int // per region, 100
	EntriesPerList     int // 1000
}

// complete fills in the defaults.
func (q *Quotas) complete() {
	for _, one := range []struct {
		value     *int
		byDefault int
	}{
		{&q.VPCs, 5}, {&q.SubnetsPerVPC, 200}, {&q.RouteTablesPerVPC, 200}, {&q.RoutesPerTable, 50}, {&q.InternetGateways, 5},
		{&q.Addresses, 5}, {&q.NetworkInterfaces, 5000}, {&q.SecurityGroups, 2500}, {&q.RulesPerGroup, 60}, {&q.GroupsPerInterface, 5},
		{&q.PrefixLists, 100}, {&q.EntriesPerList, 1000},
	} {
		if *one.value == 0 {
			*one.value = one.byDefault
		}
	}
}

// Check says what AWS would not grant.
func (q Quotas) Check() error {
	q.complete()
	switch {
	case q.GroupsPerInterface > 16:
		return fmt.Errorf("%d security groups per interface: AWS grants at most 16", q.GroupsPerInterface)
	case q.GroupsPerInterface*q.RulesPerGroup > 1000:
		return fmt.Errorf("%d security groups per interface with %d rules each: AWS grants at most 1000 rules per interface", q.GroupsPerInterface, q.RulesPerGroup)
	}
	return nil
}

// maxTags is fixed.
const maxTags = 50
