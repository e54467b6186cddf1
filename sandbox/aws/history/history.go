// Package history keeps an emulated account on the disk, as the calls that made it: whoever carries them out again, in
// their order and with the same seed, has the same resources with the same ids and tags.
//
// The whole history is one JSON file that is replaced at once, so that a crash leaves the file from before or the one from
// after. It grows with each write, by about the size of the call; Keeper.Restart, when the account is reset, empties it.
// It never interprets a call.
package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// File is the name of the history in its folder.
const File = "account.json"

// Version is that of the files that this program writes, and the only one that it reads.
const Version = 1

// Write is one call that changed the account, or one that failed but used up ids.
type Write struct {
	Service   string          `json:"service"`
	Operation string          `json:"operation"`
	Input     json.RawMessage `json:"input"`
	Failed    bool            `json:"failed,omitempty"`
}

// Identity is what an account cannot change without becoming another one.
type Identity struct {
	AccountID string   `json:"accountId"`
	Region    string   `json:"region"`
	Cluster   string   `json:"cluster"`
	Zones     []string `json:"zones"`
	Seed      uint64   `json:"seed"`
	// Octet is that of the VPC, 10.Octet.0.0/16.
	Octet uint8 `json:"octet"`
}

// Account is the file.
type Account struct {
	Version int `json:"version"`
	Identity
	// Generation counts the resets.
	Generation uint64  `json:"generation"`
	Writes     []Write `json:"writes"`
}

// Read reads the history of a folder. It is fs.ErrNotExist if there is none.
func Read(dir string) (Account, error) {
	path := filepath.Join(dir, File)
	text, err := os.ReadFile(path)
	if err != nil {
		return Account{}, err
	}
	const way = "move the file away to begin with an empty account"
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return Account{}, fmt.Errorf("cannot read the account in %s: %w; %s", path, err, way)
	}
	if version.Version != Version {
		return Account{}, fmt.Errorf("cannot read the account in %s: it is of version %d, this program knows version %d; %s", path, version.Version, Version, way)
	}
	var a Account
	if err := json.Unmarshal(text, &a); err != nil {
		return Account{}, fmt.Errorf("cannot read the account in %s: %w; %s", path, err, way)
	}
	return a, nil
}

// Keeper keeps the history of a running account.
type Keeper struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex
	account Account
	dirty   chan struct{} // holds one token when something is to be written
	closing chan struct{}
	done    chan struct{}
}

// pause is how long changes are collected before they are written, at least.
const pause = 100 * time.Millisecond

// Open begins to keep the account of that identity in a folder, which is made if it is not there. What the folder holds of it
// already is in Account; it fails if that is another account's or cannot be read.
func Open(dir string, who Identity, log *slog.Logger) (*Keeper, error) {
	account, err := Read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		account = Account{Version: Version, Identity: who, Writes: []Write{}}
	case err != nil:
		return nil, err
	}
	if err := who.matches(account.Identity); err != nil {
		return nil, fmt.Errorf("cannot go on with the account in %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep the account: %w", err)
	}
	k := &Keeper{dir: dir, log: log, account: account, dirty: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	if err := k.write(); err != nil {
		return nil, err
	}
	go k.keep()
	return k, nil
}

func (i Identity) matches(kept Identity) error {
	for _, d := range []struct {
		what       string
		kept, want any
		same       bool
	}{
		{"account id", kept.AccountID, i.AccountID, kept.AccountID == i.AccountID},
		{"region", kept.Region, i.Region, kept.Region == i.Region},
		{"cluster", kept.Cluster, i.Cluster, kept.Cluster == i.Cluster},
		{"zones", kept.Zones, i.Zones, slices.Equal(kept.Zones, i.Zones)},
		{"seed", kept.Seed, i.Seed, kept.Seed == i.Seed},
		{"second octet of the VPC", kept.Octet, i.Octet, kept.Octet == i.Octet},
	} {
		if !d.same {
			return fmt.Errorf("its %s is %v, not %v, and all ids depend on it", d.what, d.kept, d.want)
		}
	}
	return nil
}

// Account is what is kept so far. The writes must not be changed.
func (k *Keeper) Account() Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.account
	a.Writes = slices.Clip(a.Writes)
	return a
}

// Add keeps one more write.
func (k *Keeper) Add(w Write) {
	k.mu.Lock()
	k.account.Writes = append(k.account.Writes, w)
	k.mu.Unlock()
	k.changed()
}

// Restart forgets all writes: the account is empty and of a new generation.
func (k *Keeper) Restart(generation uint64) {
	k.mu.Lock()
	k.account.Generation, k.account.Writes = generation, []Write{}
	k.mu.Unlock()
	k.changed()
}

func (k *Keeper) changed() {
	select {
	case k.dirty <- struct{}{}:
	default:
	}
}

// keep writes as changes come. A long history takes long to write, so it is written less often.
func (k *Keeper) keep() {
	defer close(k.done)
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-k.dirty:
		case <-k.closing:
			return
		}
		began := time.Now()
		if err := k.write(); err != nil {
			k.log.Error("the account is not kept at the moment", "error", err)
		}
		rest.Reset(max(pause, 10*time.Since(began)))
		select {
		case <-rest.C:
		case <-k.closing:
			return
		}
	}
}

// write replaces the file at once.
func (k *Keeper) write() error {
	text, err := json.Marshal(k.Account())
	if err != nil {
		return fmt.Errorf("cannot write the account: %w", err)
	}
	next, err := os.CreateTemp(k.dir, File+".*.next")
	if err != nil {
		return fmt.Errorf("cannot write the account: %w", err)
	}
	_, err = next.Write(append(text, '\n'))
	err = errors.Join(err, next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), filepath.Join(k.dir, File))
	}
	if err != nil {
		_ = os.Remove(next.Name())
		return fmt.Errorf("cannot write the account: %w", err)
	}
	return nil
}

// Close writes what is left. Closing twice does nothing.
func (k *Keeper) Close() error {
	k.mu.Lock()
	select {
	case <-k.closing:
		k.mu.Unlock()
		return nil
	default:
	}
	close(k.closing)
	k.mu.Unlock()
	<-k.done
	return k.write()
}
