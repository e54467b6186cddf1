package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// pause is how long changes are collected before they are written, at least.
const pause = 100 * time.Millisecond

// Take tells what an account has now: its generation, and what each service has.
type Take func() (generation uint64, services map[string]json.RawMessage, err error)

// Keeper keeps a running account. Its methods may be called from several goroutines.
type Keeper struct {
	dir string
	who Identity
	log *slog.Logger

	take    Take
	dirty   chan struct{} // holds one token when something is to be written
	closing chan struct{}
	done    chan struct{}
	once    sync.Once
	err     error // of Close
}

// Open begins to keep the account of that identity in a folder, which is made if it is not there. It returns what the folder holds
// of it already, with a generation that has not been used before: that is on the disk when Open returns, so that ids that were given out and
// then lost in a crash are not given out once more. It fails if the folder holds another account, or one that cannot be read; nothing is
// changed then.
func Open(dir string, who Identity, log *slog.Logger) (*Keeper, Account, error) {
	account, err := Read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		account = Account{Version: Version, Identity: who, Services: map[string]json.RawMessage{}}
	case err != nil:
		return nil, Account{}, err
	default:
		account.Generation++
	}
	if err := who.matches(account.Identity); err != nil {
		return nil, Account{}, fmt.Errorf("cannot go on with the account in %s: %w", filepath.Join(dir, File), err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, Account{}, fmt.Errorf("cannot keep the account: %w", err)
	}
	if err := sweep(dir); err != nil {
		return nil, Account{}, fmt.Errorf("cannot clear the folder of the account: %w", err)
	}
	account.SavedAt = time.Now().UTC()
	if err := account.write(dir); err != nil {
		return nil, Account{}, err
	}
	k := &Keeper{dir: dir, who: who, log: log, dirty: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	return k, account, nil
}

// Start lets changes be written: a first one at once, those that follow together. Take is called from another goroutine.
func (k *Keeper) Start(take Take) {
	k.take = take
	go k.keep()
}

// Changed says that the account has changed. A nil Keeper keeps nothing.
func (k *Keeper) Changed() {
	if k == nil {
		return
	}
	select {
	case k.dirty <- struct{}{}:
	default:
	}
}

// keep writes as changes come. A large account takes long to write, so it is written less often. What could not be written is tried
// again, and said once.
func (k *Keeper) keep() {
	defer close(k.done)
	failing := false
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-k.dirty:
		case <-k.closing:
			return
		}
		began := time.Now()
		err := k.write()
		switch {
		case err != nil && !failing:
			k.log.Error("the account is not kept at the moment", "error", err)
		case err == nil && failing:
			k.log.Info("the account is kept again", "folder", k.dir)
		}
		if failing = err != nil; failing {
			k.Changed()
		}
		rest.Reset(max(pause, 10*time.Since(began)))
		select {
		case <-rest.C:
		case <-k.closing:
			return
		}
	}
}

func (k *Keeper) write() error {
	generation, services, err := k.take()
	if err != nil {
		return fmt.Errorf("cannot tell what the account has: %w", err)
	}
	return Account{Version: Version, Identity: k.who, Generation: generation, SavedAt: time.Now().UTC(), Services: services}.write(k.dir)
}

// Close writes what there is. Closing twice does nothing more.
func (k *Keeper) Close() error {
	k.once.Do(func() {
		close(k.closing)
		if k.take == nil {
			return // never started: the folder is as it was
		}
		<-k.done
		k.err = k.write()
	})
	return k.err
}
