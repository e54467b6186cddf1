package history_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/history"
)

var identity = history.Identity{AccountID: "1", Region: "eu-west-1", Cluster: "c", Zones: []string{"a", "b"}, Seed: 7, Octet: 3}

func open(t *testing.T, dir string) *history.Keeper {
	t.Helper()
	k, err := history.Open(dir, identity, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestWhatWasKeptIsThereAfterACrash(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	k := open(t, dir)
	want := []history.Write{
		{Service: "ec2", Operation: "CreateSecurityGroup", Input: json.RawMessage(`{"GroupName":"g"}`)},
		{Service: "acm", Operation: "RequestCertificate", Input: json.RawMessage(`{}`), Failed: true},
	}
	for _, w := range want {
		k.Add(w)
	}
	// Nobody closes it: the file comes by itself.
	var kept history.Account
	for deadline := time.Now().Add(10 * time.Second); len(kept.Writes) < len(want); time.Sleep(time.Millisecond) {
		var err error
		if kept, err = history.Read(dir); err != nil {
			t.Fatal(err) // also while it is being replaced
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d writes are on the disk", len(kept.Writes))
		}
	}
	if diff := cmp.Diff(want, kept.Writes); diff != "" {
		t.Error(diff)
	}
	k.Restart(5)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if kept, err := history.Read(dir); err != nil || kept.Generation != 5 || len(kept.Writes) != 0 {
		t.Errorf("after a restart: %+v, %v", kept, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left over: %v", files)
	}
}

func TestAnAccountThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	for says, text := range map[string]string{
		"unexpected end": `{"version": 1, "writes": [`,
		"version 2":      `{"version": 2}`,
		"version 0":      `{}`,
		"cannot unmarsh": `{"version": 1, "writes": 3}`,
		"seed is 8":      `{"version": 1, "accountId": "1", "region": "eu-west-1", "cluster": "c", "zones": ["a", "b"], "seed": 8, "octet": 3}`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, history.File)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := history.Open(dir, identity, slog.Default()); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", says, err)
		}
		if left, _ := os.ReadFile(path); string(left) != text {
			t.Errorf("%s: a file that was refused has changed", says)
		}
	}
}
