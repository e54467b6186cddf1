package mirror

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock gives moments one second apart.
type clock struct{ now Moment }

func (c *clock) tick() Moment {
	c.now = Moment{Order: c.now.Order + 1, Time: c.now.Time.Add(time.Second)}
	return c.now
}

func write(t *Table[string], at Moment, value string) {
	t.BeginWrite("r")
	t.EndWrite("r", at, Accepted, func(string, bool) string { return value })
}

func TestReadsAndWritesInOrder(t *testing.T) {
	type step func(*Table[string], *clock) Outcome
	read := func(value string) step {
		return func(t *Table[string], c *clock) Outcome { at := c.tick(); return t.Read("r", at, at.Time, value) }
	}
	wrote := func(value string) step {
		return func(t *Table[string], c *clock) Outcome { write(t, c.tick(), value); return -1 }
	}
	later := func(t *Table[string], c *clock) Outcome { c.now.Time = c.now.Time.Add(time.Hour); return -1 }
	for name, row := range map[string]struct {
		steps          []step
		last           Outcome
		believed, seen string
	}{
		"a read is believed":                                  {[]step{read("a")}, Changed, "a", "a"},
		"the same again is no change":                         {[]step{read("a"), read("a")}, Confirmed, "a", "a"},
		"a write is believed and not seen":                    {[]step{read("a"), wrote("b")}, -1, "b", "a"},
		"a read confirms a write":                             {[]step{read("a"), wrote("b"), read("b")}, Confirmed, "b", "b"},
		"the old state soon after a write is seen only":       {[]step{read("a"), wrote("b"), read("a")}, Stale, "b", "a"},
		"so is the state before two writes":                   {[]step{read("a"), wrote("b"), wrote("c"), read("a")}, Stale, "c", "a"},
		"and the state between them":                          {[]step{read("a"), wrote("b"), wrote("c"), read("b")}, Stale, "c", "b"},
		"a third state is somebody else's":                    {[]step{read("a"), wrote("b"), read("x")}, Changed, "x", "x"},
		"the old state is believed when the window is over":   {[]step{read("a"), wrote("b"), later, read("a")}, Changed, "a", "a"},
		"what is written back is not old":                     {[]step{read("a"), wrote("b"), wrote("a"), read("a")}, Confirmed, "a", "a"},
		"a stale read after a confirming one changes nothing": {[]step{read("a"), wrote("b"), read("b"), read("a")}, Stale, "b", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			table, c := NewTable[string](time.Minute), &clock{}
			var last Outcome
			for _, step := range row.steps {
				last = step(table, c)
			}
			believed, _ := table.Believed("r")
			seen, _, _ := table.Seen("r")
			if last != row.last || believed != row.believed || seen != row.seen {
				t.Errorf("outcome %d, believed %q, seen %q; want %d, %q, %q", last, believed, seen, row.last, row.believed, row.seen)
			}
		})
	}
}

func TestAReadThatOverlapsAWriteIsDiscarded(t *testing.T) {
	table, c := NewTable[string](time.Minute), &clock{}
	table.Read("r", c.tick(), c.now.Time, "a")
	began := c.tick()
	table.BeginWrite("r")
	during := c.tick()
	if got := table.Read("r", began, c.now.Time, "x"); got != Discarded {
		t.Errorf("a read during a write gives %d", got)
	}
	table.EndWrite("r", c.tick(), Accepted, func(string, bool) string { return "b" })
	for _, at := range []Moment{began, during} {
		if got := table.Read("r", at, c.now.Time, "x"); got != Discarded {
			t.Errorf("a read that began at %d, before the write returned at %d, gives %d", at.Order, c.now.Order, got)
		}
	}
	if table.Fresh("r", time.Time{}) {
		t.Error("fresh although the write was not seen")
	}
	table.Read("r", c.tick(), c.now.Time, "b")
	if !table.Fresh("r", time.Time{}) || !table.Fresh("r", c.now.Time) || table.Fresh("r", c.now.Time.Add(1)) {
		t.Error("fresh must mean: begun at or after the time, and after the write")
	}
}

func TestWhatIsForgottenDoesNotComeBackByALateRead(t *testing.T) {
	table, c := NewTable[string](time.Minute), &clock{}
	table.Read("r", c.tick(), c.now.Time, "a")
	began := c.tick()
	table.Forget("r", c.tick())
	table.Read("r", began, c.now.Time, "a")
	table.Read("r", c.tick(), c.now.Time, "a") // AWS still lists it
	if _, known := table.Believed("r"); known {
		t.Error("a deleted resource came back")
	}
	c.now.Time = c.now.Time.Add(time.Hour)
	table.Read("r", c.tick(), c.now.Time, "a")
	if _, known := table.Believed("r"); !known {
		t.Error("what AWS lists an hour later exists")
	}
}

func TestAListThatMissesWhatIsYoungDropsNothing(t *testing.T) {
	table, c := NewTable[string](time.Minute), &clock{}
	write(table, c.tick(), "a")
	if table.Missing("r", c.tick(), c.now.Time) {
		t.Error("a resource created a second ago was dropped")
	}
	c.now.Time = c.now.Time.Add(time.Hour)
	if !table.Missing("r", c.tick(), c.now.Time) {
		t.Error("a resource that an hour later is not listed was kept")
	}
}

func TestVersionsNeverFall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, c := NewTable[string](10*time.Second), &clock{}
		last := uint64(0)
		value := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			began := c.tick()
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				write(table, c.tick(), value.Draw(t, "value"))
			case 1:
				table.BeginWrite("r")
				table.EndWrite("r", c.tick(), Unanswered, nil)
				if !table.Doubtful("r") {
					t.Fatal("an unanswered write leaves no doubt")
				}
			case 2:
				table.Forget("r", c.tick())
			default:
				v := value.Draw(t, "value")
				before, known := table.Believed("r")
				outcome := table.Read("r", began, c.now.Time, v)
				after, _ := table.Believed("r")
				if outcome == Stale && (known && after != before) {
					t.Fatal("a stale read was believed")
				}
				if outcome != Stale && outcome != Discarded && after != v {
					t.Fatalf("a read of %q leaves %q", v, after)
				}
			}
			if version := table.Version("r"); version != 0 && version < last {
				t.Fatalf("version %d after %d", version, last)
			} else if version != 0 {
				last = version
			}
		}
	})
}
