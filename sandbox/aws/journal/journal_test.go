package journal_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

func add(j *journal.Journal, n int) {
	for i := range n {
		j.Add(journal.Record{Service: "ec2", Operation: fmt.Sprint("Op", i)})
	}
}

func TestJournalKeepsTheNewestRecordsInOrder(t *testing.T) {
	t.Parallel()
	j := journal.New(10, nil)
	if len(j.Since(0)) != 0 {
		t.Error("a new journal has records")
	}
	add(j, 25)
	kept := j.Since(0)
	if len(kept) != 10 || kept[0].Sequence != 16 || kept[9].Sequence != 25 {
		t.Errorf("kept %d records from %d on", len(kept), kept[0].Sequence)
	}
	if later := j.Since(23); len(later) != 2 || later[0].Sequence != 24 {
		t.Errorf("after 23: %+v", later)
	}
	if len(j.Since(99)) != 0 {
		t.Error("records from the future")
	}
}

func TestFollowingMissesNothingOrSaysSo(t *testing.T) {
	t.Parallel()
	j := journal.New(100, nil)
	add(j, 3)
	kept, later, stop := j.Follow(1, 5)
	add(j, 5)
	stop()
	stop() // twice does no harm
	next := uint64(2)
	for _, r := range kept {
		if r.Sequence != next {
			t.Errorf("record %d, want %d", r.Sequence, next)
		}
		next++
	}
	for r := range later {
		if r.Sequence != next {
			t.Errorf("record %d, want %d", r.Sequence, next)
		}
		next++
	}
	if next != 9 {
		t.Errorf("the last record was %d", next-1)
	}

	_, slow, stop := j.Follow(8, 2)
	defer stop()
	add(j, 3)
	count := 0
	for range slow { // ends, since the reader was too slow
		count++
	}
	if count != 2 {
		t.Errorf("a slow reader got %d records before it was cut off", count)
	}
}

type broken struct{ writes int }

func (b *broken) Write([]byte) (int, error) { b.writes++; return 0, errors.New("disk full") }

func TestAFullDiskStopsTheFileAndNothingElse(t *testing.T) {
	t.Parallel()
	disk := &broken{}
	j := journal.New(10, disk)
	add(j, 5)
	if disk.writes != 1 || len(j.Since(0)) != 5 {
		t.Errorf("%d writes, %d records", disk.writes, len(j.Since(0)))
	}
}

// Whatever callers send, a journal has bounds.
func TestJournalStaysSmall(t *testing.T) {
	t.Parallel()
	j := journal.New(10, nil)
	large := strings.Repeat("x", 1<<20)
	j.Add(journal.Record{Service: "ec2", Operation: large, UserAgent: large, Parameters: map[string]string{large: large, "Name": "short"}})
	r := j.Since(0)[0]
	for name, value := range r.Parameters {
		if len(name) > 5000 || len(value) > 5000 {
			t.Errorf("a parameter of %d and %d bytes is kept", len(name), len(value))
		}
	}
	if len(r.Operation) > 5000 || len(r.UserAgent) > 5000 || !strings.HasSuffix(r.UserAgent, "(1048576 bytes)") || r.Parameters["Name"] != "short" {
		t.Errorf("kept: an operation of %d bytes, a caller of %d bytes, Name=%q", len(r.Operation), len(r.UserAgent), r.Parameters["Name"])
	}
	many := map[string]string{}
	for i := range 100 {
		many[fmt.Sprint("Targets.member.", i)] = large
	}
	j.Add(journal.Record{Service: "ec2", Operation: large, Parameters: many})
	kept := 0
	for name, value := range j.Since(1)[0].Parameters {
		kept += len(name) + len(value)
	}
	if kept > 17_000 || j.Since(1)[0].Parameters["..."] != "100 parameters in all" {
		t.Errorf("%d bytes of parameters are kept of one call", kept)
	}
	if after := j.Since(math.MaxUint64); len(after) != 0 {
		t.Errorf("%d records after the last possible one", len(after))
	}
	add(j, 19_999)
	counts := j.Counts()
	calls := 0
	for _, c := range counts {
		calls += c.Calls
	}
	if len(counts) > 10_001 || calls != 20_001 {
		t.Errorf("%d calls are counted under %d names", calls, len(counts))
	}
}
