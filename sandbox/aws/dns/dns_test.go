package dns_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	mdns "github.com/miekg/dns"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

const (
	application = elbtypes.LoadBalancerTypeEnumApplication
	network     = elbtypes.LoadBalancerTypeEnumNetwork
)

// TestNamesOfLoadBalancers in a bubble: a name appears after the profile's delay, and goes with its load balancer.
func TestNamesOfLoadBalancers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, map[profile.Key]string{profile.DNSVisible: "F(30)"})
		alb, nlb := a.balancer("web", application), a.balancer("tcp", network)
		synctest.Wait()
		if got := say(a.ask(*alb.DNSName, "A")); got != "NXDOMAIN, none in eu-west-1.elb.amazonaws.com. for 60" {
			t.Errorf("a new name: %s", got)
		}
		time.Sleep(30 * time.Second) // of the bubble
		for lb, name := range map[string]string{"web": *alb.DNSName, "tcp": *nlb.DNSName} {
			var want []string
			for _, real := range a.real(lb) {
				want = append(want, fmt.Sprintf("A %s 60", real))
			}
			slices.Sort(want)
			if got := say(a.ask(strings.ToUpper(name), "A")); len(want) != 3 || got != strings.Join(want, ", ") {
				t.Errorf("%s: %s, want %s", lb, got, want)
			}
			if got := say(a.ask(name, "AAAA")); !strings.HasPrefix(got, "none in ") {
				t.Errorf("%s has IPv6 addresses: %s", lb, got)
			}
		}
		if got, want := say(a.ask("dualstack."+*alb.DNSName, "A")), say(a.ask(*alb.DNSName, "A")); got != want {
			t.Errorf("dualstack: %s, want %s", got, want)
		}
		for zone, real := range a.real("tcp") {
			if got := say(a.ask(zone+"."+*nlb.DNSName, "A")); got != fmt.Sprintf("A %s 60", real) {
				t.Errorf("the name of zone %s: %s, want %s", zone, got, real)
			}
		}
		for _, name := range []string{"eu-west-1z." + *nlb.DNSName, "eu-west-1a." + *alb.DNSName, "other-1.eu-west-1.elb.amazonaws.com"} {
			if got := say(a.ask(name, "A")); !strings.HasPrefix(got, "NXDOMAIN") {
				t.Errorf("%s: %s", name, got)
			}
		}
		if got := say(a.ask("elb.eu-west-1.amazonaws.com", "NS")); strings.Count(got, "NS ns-") != 2 {
			t.Errorf("name servers: %s", got)
		}
		must(a.ELBv2().DeleteLoadBalancer(reader, &elb.DeleteLoadBalancerInput{LoadBalancerArn: alb.LoadBalancerArn}))(t)
		if got := say(a.ask(*alb.DNSName, "A")); !strings.HasPrefix(got, "NXDOMAIN") {
			t.Errorf("the name of a deleted load balancer: %s", got)
		}
	})
}

// TestOrderVaries: clients take the first address, so that each has to be the first one now and then.
func TestOrderVaries(t *testing.T) {
	a := newAccount(t, nil)
	lb := a.active(a.balancer("web", application))
	a.zone("example.com", set("many.example.com", "A", 60, "192.0.2.1", "192.0.2.2", "192.0.2.3"))
	for _, name := range []string{*lb.DNSName, "many.example.com"} {
		first := map[string]int{}
		for range 300 {
			answer := a.ask(name, "A").Answer
			if len(answer) != 3 {
				t.Fatalf("%s: %v", name, answer)
			}
			first[answer[0].(*mdns.A).A.String()]++
		}
		for address, times := range first {
			if times < 60 || len(first) != 3 { // 5 standard deviations below 100
				t.Errorf("%s: %s is first %d times of 300", name, address, times)
			}
		}
	}
}

// TestZoneWithoutHealthyTargetsLeaves, if the targets of other zones are not used for it, and comes back.
func TestZoneWithoutHealthyTargetsLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, map[profile.Key]string{profile.ALBHealthAggregate: "F(2)"})
		lb := a.balancer("web", application)
		targets := a.targets(lb, 80, false, "eu-west-1a", "eu-west-1b", "eu-west-1c")
		real := a.real("web")
		synctest.Wait()
		count := func() int { return len(a.ask(*lb.DNSName, "A").Answer) }
		if count() != 3 {
			t.Errorf("no zone is healthy yet, and %d of 3 are answered", count())
		}
		for _, one := range targets[:2] {
			a.report(one, dataplane.Healthy)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := say(a.ask(*lb.DNSName, "A")); count() != 2 || strings.Contains(got, real["eu-west-1c"].String()) {
			t.Errorf("with targets in two zones: %s, zone c is at %s", got, real["eu-west-1c"])
		}
		a.report(targets[0], dataplane.Unhealthy)
		if count() != 2 {
			t.Error("a zone leaves before its health is known")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := say(a.ask(*lb.DNSName, "A")); got != fmt.Sprintf("A %s 60", real["eu-west-1b"]) {
			t.Errorf("with targets in one zone: %s", got)
		}
		a.report(targets[1], dataplane.Unhealthy)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if count() != 3 {
			t.Errorf("all zones fail, and %d of 3 are answered", count())
		}
		// A group that is unhealthy in all zones at once makes all of them fail.
		a.report(targets[1], dataplane.Healthy)
		a.targets(lb, 81, true, "eu-west-1a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if count() != 3 {
			t.Errorf("all zones fail by a second group, and %d of 3 are answered", count())
		}
	})
}

// TestAliasEvaluatesTargetHealth: of weighted aliases only those to healthy load balancers are answered, whatever their weights, and all
// when there is none.
func TestAliasEvaluatesTargetHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, nil)
		blue, green := a.balancer("blue", application), a.balancer("green", application)
		inBlue, inGreen := a.targets(blue, 80, true, "eu-west-1a", "eu-west-1b"), a.targets(green, 80, true, "eu-west-1a")
		a.targets(blue, 81, true) // an empty group does not count beside others
		synctest.Wait()
		hosted := *blue.CanonicalHostedZoneId
		zone := a.zone("example.com",
			weighted(alias("shop.example.com", *blue.DNSName, hosted, true), "blue", 255),
			weighted(alias("shop.example.com", *green.DNSName, hosted, true), "green", 0),
			weighted(alias("blind.example.com", *blue.DNSName, hosted, false), "blue", 255),
			weighted(alias("blind.example.com", *green.DNSName, hosted, false), "green", 0),
		)
		a.change(zone,
			weighted(alias("tree.example.com", "shop.example.com", zone, true), "shop", 255),
			weighted(set("tree.example.com", "A", 60, "192.0.2.1"), "page", 0),
		)
		names := map[string]string{"192.0.2.1": "page"}
		for _, lb := range []string{"blue", "green"} {
			for _, real := range a.real(lb) {
				names[real.String()] = lb
			}
		}
		expect := func(when, name, want string) {
			t.Helper()
			synctest.Wait()
			for range 50 {
				for _, record := range a.ask(name, "A").Answer {
					if got := names[record.(*mdns.A).A.String()]; got != want {
						t.Fatalf("%s: %s leads to %s, want %s", when, name, got, want)
					}
				}
			}
		}
		expect("nothing is healthy", "shop.example.com", "blue")
		expect("nothing is healthy", "tree.example.com", "page")
		a.report(inGreen[0], dataplane.Healthy)
		expect("green is healthy", "shop.example.com", "green")
		expect("green is healthy", "tree.example.com", "green")
		expect("nobody looks at health", "blind.example.com", "blue")
		a.report(inBlue[0], dataplane.Unhealthy)
		a.report(inBlue[1], dataplane.Healthy)
		expect("blue is healthy by one of two", "shop.example.com", "blue")
		a.report(inBlue[1], dataplane.Unhealthy)
		expect("blue has failed", "shop.example.com", "green")
		a.report(inGreen[0], dataplane.Unhealthy)
		expect("both have failed", "shop.example.com", "blue")
		expect("both have failed", "tree.example.com", "page")
	})
}

// TestRecordsOfHostedZones asks for all that a zone can say.
func TestRecordsOfHostedZones(t *testing.T) {
	a := newAccount(t, nil)
	lb := a.active(a.balancer("web", application))
	a.zone("example.com",
		set("www.example.com", "A", 300, "192.0.2.1", "192.0.2.2"),
		set("pod.example.com", "A", 5, "10.78.1.9"),
		set("six.example.com", "AAAA", 5, "2001:db8::1"),
		set("to.example.com", "CNAME", 20, "www.example.com"),
		set("balanced.example.com", "CNAME", 20, *lb.DNSName),
		set("away.example.com", "CNAME", 20, "www.elsewhere.test."),
		set("lost.example.com", "CNAME", 20, "nobody.example.com"),
		set("round.example.com", "CNAME", 20, "about.example.com"),
		set("about.example.com", "CNAME", 20, "round.example.com"),
		set("deep.in.example.com", "TXT", 20, `"one" "two \"2\" \344"`),
		set("*.wild.example.com", "A", 20, "192.0.2.9"),
		set("x.own.wild.example.com", "A", 20, "192.0.2.8"),
		set("mail.example.com", "MX", 20, "10 mx1.example.com", "20 mx2.example.com."),
		set("_http._tcp.example.com", "SRV", 20, "1 2 64080 www.example.com"),
		set("a\\057b.example.com", "A", 20, "192.0.2.7"),
		alias("alias.example.com", "dualstack."+*lb.DNSName, *lb.CanonicalHostedZoneId, true),
		alias("gone.example.com", "gone-1.eu-west-1.elb.amazonaws.com", *lb.CanonicalHostedZoneId, true),
	)
	balanced := say(a.ask(*lb.DNSName, "A"))
	for question, want := range map[string]string{
		"www.example.com A":                    "A 192.0.2.1 300, A 192.0.2.2 300",
		"WWW.example.COM A":                    "A 192.0.2.1 300, A 192.0.2.2 300",
		"pod.example.com A":                    "A 127.78.1.9 5",
		"six.example.com AAAA":                 "AAAA 2001:db8::1 5",
		"six.example.com A":                    "none in example.com. for 900",
		"to.example.com A":                     "A 192.0.2.1 300, A 192.0.2.2 300, CNAME www.example.com. 20",
		"to.example.com AAAA":                  "CNAME www.example.com. 20, none in example.com. for 900",
		"to.example.com CNAME":                 "CNAME www.example.com. 20",
		"balanced.example.com A":               balanced + ", CNAME " + *lb.DNSName + ". 20",
		"away.example.com A":                   "CNAME www.elsewhere.test. 20",
		"lost.example.com A":                   "CNAME nobody.example.com. 20, NXDOMAIN, none in example.com. for 900",
		"round.example.com A":                  "CNAME about.example.com. 20, CNAME round.example.com. 20",
		"deep.in.example.com TXT":              `TXT "one" "two \"2\" \228" 20`,
		"in.example.com A":                     "none in example.com. for 900",
		"nobody.example.com A":                 "NXDOMAIN, none in example.com. for 900",
		"any.wild.example.com A":               "A 192.0.2.9 20",
		"deep.any.wild.example.com A":          "A 192.0.2.9 20",
		"y.own.wild.example.com A":             "NXDOMAIN, none in example.com. for 900", // beside a name, its wildcard does not reach
		"any.wild.example.com TXT":             "none in example.com. for 900",
		"mail.example.com MX":                  "MX 10 mx1.example.com. 20, MX 20 mx2.example.com. 20",
		"_http._tcp.example.com SRV":           "SRV 1 2 64080 www.example.com. 20",
		"a/b.example.com A":                    "A 192.0.2.7 20",
		`a\047b.example.com A`:                 "A 192.0.2.7 20",
		"alias.example.com A":                  balanced,
		"alias.example.com TXT":                "none in example.com. for 900",
		"gone.example.com A":                   "none in example.com. for 900",
		"example.com ANY":                      `HINFO "RFC8482" "" 3600`,
		"nobody.example.com ANY":               "NXDOMAIN, none in example.com. for 900",
		"www.elsewhere.test A":                 "REFUSED",
		"amazonaws.com NS":                     "REFUSED",
		". NS":                                 "REFUSED",
		"example.com AXFR":                     "REFUSED",
		"nobody.eu-west-1.elb.amazonaws.com A": "NXDOMAIN, none in eu-west-1.elb.amazonaws.com. for 60",
	} {
		name, kind, _ := strings.Cut(question, " ")
		got := a.ask(name, kind)
		if say(got) != want {
			t.Errorf("%s:\n got %s\nwant %s", question, say(got), want)
		}
		if got.Authoritative != (got.Rcode != mdns.RcodeRefused) {
			t.Errorf("%s: authoritative is %t for %s", question, got.Authoritative, say(got))
		}
	}
	if got := say(a.ask("example.com", "SOA")); !strings.HasPrefix(got, "SOA ns-") || !strings.HasSuffix(got, " 86400 900") {
		t.Errorf("SOA: %s", got)
	}
	if got := say(a.ask("example.com", "NS")); strings.Count(got, " 172800") != 4 {
		t.Errorf("NS: %s", got)
	}
}

// TestWeightsAreSharesOfAnswers compares 20,000 answers with the weights: the chi-square of 3 degrees of freedom exceeds
// 16.27 once in a thousand seeds, and the seed is fixed.
func TestWeightsAreSharesOfAnswers(t *testing.T) {
	a := newAccount(t, nil)
	zone := a.zone("example.com")
	weights := map[string]int64{"192.0.2.1": 1, "192.0.2.2": 64, "192.0.2.3": 255, "192.0.2.4": 80, "192.0.2.5": 0}
	put := func(weights map[string]int64) {
		var sets []types.ResourceRecordSet
		for address, weight := range weights {
			sets = append(sets, weighted(set("api.example.com", "A", 10, address), address, weight))
		}
		a.change(zone, sets...)
	}
	const draws = 20_000
	chiSquare := func(expected map[string]float64) (sum float64) {
		counts := map[string]float64{}
		for range draws {
			answer := a.ask("api.example.com", "A").Answer
			if len(answer) != 1 {
				t.Fatalf("one record of the set has to be answered: %v", answer)
			}
			counts[answer[0].(*mdns.A).A.String()]++
		}
		for address, n := range counts {
			if expected[address] == 0 {
				t.Errorf("%s is answered %v times and should not be", address, n)
			}
		}
		for address, want := range expected {
			if want > 0 {
				sum += math.Pow(counts[address]-want, 2) / want
			}
		}
		return sum
	}
	put(weights)
	if x := chiSquare(map[string]float64{"192.0.2.1": draws / 400., "192.0.2.2": draws * 64 / 400., "192.0.2.3": draws * 255 / 400., "192.0.2.4": draws * 80 / 400.}); x > 16.27 {
		t.Errorf("chi-square %v: the answers do not follow the weights", x)
	}
	equal := map[string]float64{}
	for address := range weights {
		weights[address], equal[address] = 0, draws/5
	}
	put(weights)
	if x := chiSquare(equal); x > 18.47 { // 4 degrees of freedom
		t.Errorf("chi-square %v: with all weights 0 the answers are not equally likely", x)
	}
}

// TestChangeIsAnsweredWhenInSync: the API shows a change at once, the name servers later.
func TestChangeIsAnsweredWhenInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, map[profile.Key]string{profile.Route53InSync: "F(20)"})
		zone := a.zone("example.com")
		time.Sleep(time.Second) // changes must not follow each other at once
		a.change(zone, set("www.example.com", "A", 60, "192.0.2.1"))
		if got := say(a.ask("www.example.com", "A")); got != "REFUSED" {
			t.Errorf("the name servers have the zone at once: %s", got)
		}
		time.Sleep(20 * time.Second)
		a.change(zone, set("www.example.com", "A", 60, "192.0.2.2"))
		if got := say(a.ask("www.example.com", "A")); got != "A 192.0.2.1 60" {
			t.Errorf("before the change is in sync: %s", got)
		}
		time.Sleep(20 * time.Second)
		if got := say(a.ask("www.example.com", "A")); got != "A 192.0.2.2 60" {
			t.Errorf("after: %s", got)
		}
	})
}

// TestSeedRepeats: the same seed draws the same records in the same order.
func TestSeedRepeats(t *testing.T) {
	var draws [2]string
	for i := range draws {
		a := newAccount(t, nil)
		a.zone("example.com", weighted(set("w.example.com", "A", 60, "192.0.2.1", "192.0.2.2"), "a", 1), weighted(set("w.example.com", "A", 60, "192.0.2.3"), "b", 1))
		for range 40 {
			for _, record := range a.ask("w.example.com", "A").Answer {
				draws[i] += record.(*mdns.A).A.String() + " "
			}
		}
	}
	if draws[0] != draws[1] {
		t.Errorf("one run:\n%s\nanother:\n%s", draws[0], draws[1])
	}
}
