// Package resourceid makes the ids of emulated resources: random to look at, the same in each run with
// the same seed as long as the same names are created in the same order.
package resourceid

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math/big"
	"strings"
	"sync"
)

// Source makes ids. Its methods may be called from several goroutines.
type Source struct {
	seed uint64

	mu         sync.Mutex
	generation uint64
	made       map[uint64]uint32 // by hash of kind and name
	epoch      uint64            // how often made was full
	total      uint64
}

// maxNames bounds how many names are told apart: they come from outside, and nobody says when one is not used any more. After that many
// a new epoch begins, in which ids of the same names are others.
const maxNames = 20_000

// NewSource returns a source of ids for a seed.
func NewSource(seed uint64) *Source { return &Source{seed: seed, made: map[uint64]uint32{}} }

// Hex is an id of so many hexadecimal digits (at most 64) for one more resource of this kind and name.
func (s *Source) Hex(digits int, kind, name string) string {
	sum := s.sum(kind, name)
	return hex.EncodeToString(sum[:])[:digits]
}

// EC2 is an id of EC2's form: a prefix such as sg, a hyphen and 17 hexadecimal digits.
func (s *Source) EC2(prefix, name string) string {
	return prefix + "-" + s.Hex(17, prefix, name)
}

// Decimal is an id of up to ten decimal digits, as in the DNS names of load balancers.
func (s *Source) Decimal(kind, name string) string {
	sum := s.sum(kind, name)
	return new(big.Int).Mod(new(big.Int).SetBytes(sum[:]), big.NewInt(10_000_000_000)).String()
}

// UUID is an id in the form of a UUID.
func (s *Source) UUID(kind, name string) string {
	h := s.Hex(32, kind, name)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

func (s *Source) sum(kind, name string) [sha256.Size]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kind + "/" + name
	if s.generation > 0 {
		key = fmt.Sprintf("%d/%s", s.generation, key)
	}
	if len(s.made) >= maxNames {
		clear(s.made)
		s.epoch++
	}
	if s.epoch > 0 {
		key = fmt.Sprintf("%d+%s", s.epoch, key)
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(key))
	counter := hash.Sum64() // two names with one hash count together: their ids differ all the same
	s.made[counter]++
	s.total++
	return sha256.Sum256(fmt.Appendf(nil, "%d/%s/%d", s.seed, key, s.made[counter]))
}

// Restart begins a generation: ids of the same names are others than those of the generations before, and the same in
// each run. A source is born in generation 0.
func (s *Source) Restart(generation uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation, s.epoch = generation, 0
	clear(s.made)
}

// Made is how many ids were made so far.
func (s *Source) Made() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}
