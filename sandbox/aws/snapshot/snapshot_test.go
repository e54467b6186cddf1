package snapshot_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

var who = snapshot.Identity{AccountID: "1", Region: "r", Cluster: "c", Zones: []string{"a"}, Seed: 1, Octet: 7}

// counter is an account that counts how often it was asked.
type counter struct {
	mu    sync.Mutex
	value int
	fails bool
}

func (c *counter) set(value int, fails bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value, c.fails = value, fails
}

func (c *counter) take() (uint64, map[string]json.RawMessage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails {
		return 0, nil, errors.New("out of order")
	}
	text, err := json.Marshal(c.value)
	return 5, map[string]json.RawMessage{"counter": text}, err
}

func read(t *testing.T, dir string) string {
	t.Helper()
	a, err := snapshot.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return string(a.Services["counter"])
}

func TestChangesAreWrittenTogetherAndAgainIfTheyCannotBe(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made")
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		k, account, err := snapshot.Open(dir, who, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil || account.Generation != 0 || len(account.Services) != 0 {
			t.Fatalf("%+v, %v", account, err)
		}
		c := &counter{value: 1}
		k.Start(c.take)
		k.Changed()
		synctest.Wait()
		if got := read(t, dir); got != "1" {
			t.Errorf("a first change is written at once: %q", got)
		}
		c.set(2, false)
		k.Changed()
		synctest.Wait()
		if got := read(t, dir); got != "1" {
			t.Errorf("the next one waits: %q", got)
		}
		c.set(2, true)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := read(t, dir); got != "1" {
			t.Errorf("what cannot be told is not written: %q", got)
		}
		c.set(2, false)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := read(t, dir); got != "2" {
			t.Errorf("it is tried again: %q", got)
		}
		if said := strings.Count(log.String(), "\n"); said != 2 || !strings.Contains(log.String(), "out of order") || !strings.Contains(log.String(), "kept again") {
			t.Errorf("%d lines of ten attempts: %s", said, log.String())
		}
		c.set(3, false)
		for range 2 {
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		}
		if got := read(t, dir); got != "3" {
			t.Errorf("Close writes what there is: %q", got)
		}
		other := who
		other.Region = "elsewhere"
		if _, _, err := snapshot.Open(dir, other, slog.Default()); err == nil || !strings.Contains(err.Error(), "its region is r, not elsewhere") {
			t.Errorf("another account's folder: %v", err)
		}
		for generation := uint64(6); generation < 8; generation++ {
			k, account, err := snapshot.Open(dir, who, slog.Default())
			if err != nil || account.Generation != generation {
				t.Errorf("generation %d, want %d: %v", account.Generation, generation, err)
			}
			if err := k.Close(); err != nil { // never started
				t.Error(err)
			}
		}
	})
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version": 2, "generation": 1, "services": {"a": {}}}`))
	f.Add([]byte(`{"version": 2, "zones": 7}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, snapshot.File), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.Read(dir); err != nil && !strings.Contains(err.Error(), filepath.Join(dir, snapshot.File)) {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}
