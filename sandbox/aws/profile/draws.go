package profile

import (
	"hash/fnv"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Draws takes values from a profile. Its methods may be called from several goroutines.
type Draws struct {
	seed  uint64
	table atomic.Pointer[table]
}

// table is what the values come from at the moment.
type table struct {
	profile *Profile
	scale   float64
}

// NewDraws makes Draws that multiply every duration by scale (1 is real time).
func NewDraws(p *Profile, seed uint64, scale float64) *Draws {
	d := &Draws{seed: seed}
	d.Set(p, scale)
	return d
}

// Set lets later draws come from another profile, or with another scale. What has been drawn stays: a change that is on its way
// to a node arrives when it would have.
func (d *Draws) Set(p *Profile, scale float64) { d.table.Store(&table{p, scale}) }

// Profile is the table that values are taken from.
func (d *Draws) Profile() *Profile { return d.table.Load().profile }

// Scale multiplies every duration.
func (d *Draws) Scale() float64 { return d.table.Load().scale }

// Once is the duration of an event. The same event has the same duration.
func (d *Draws) Once(key Key, event string) time.Duration {
	return d.duration(key, d.normal(string(key), event, ""))
}

// PerNode is the duration that one change takes to reach one node. Nodes draw for themselves, but
// share a common factor with weight Correlation.
func (d *Draws) PerNode(key Key, event, node string) time.Duration {
	rho := d.Profile().Correlation
	common := d.normal(string(key), event, "")
	own := d.normal(string(key), event, "node/"+node)
	return d.duration(key, math.Sqrt(rho)*common+math.Sqrt(1-rho)*own)
}

// Chance says whether an event of the given probability happens.
func (d *Draws) Chance(probability float64, event string) bool {
	return probability > 0 && d.uniform("chance", event, "") < probability
}

// longest is what any duration beyond it counts as: one that does not fit would be negative, which is none at all.
const longest = 100 * 365 * 24 * time.Hour

func (d *Draws) duration(key Key, z float64) time.Duration {
	t := d.table.Load()
	return time.Duration(min(t.profile.Seconds[key].Quantile(z)*t.scale*float64(time.Second), float64(longest)))
}

func (d *Draws) normal(parts ...string) float64 {
	return math.Sqrt2 * math.Erfinv(2*d.uniform(parts...)-1)
}

// uniform is in (0, 1).
func (d *Draws) uniform(parts ...string) float64 {
	return (float64(d.hash(parts...)>>11) + 0.5) / (1 << 53)
}

func (d *Draws) hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, part := range parts {
		_, _ = h.Write([]byte(part))
		_, _ = h.Write([]byte{0})
	}
	// FNV mixes its last bytes badly; two rounds of multiply and fold put that right.
	x := h.Sum64() ^ d.seed
	for range 2 {
		hi, lo := bits.Mul64(x^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
		x = hi ^ lo
	}
	return x
}
