// Package snapshot keeps an emulated account on the disk: what its services have, each as one JSON value, in one file.
//
// The file is written to one side, synced and renamed, so that a crash at any moment leaves the file from before or the one from
// after, of all services together. Its size and the time to read it depend on what the account has, not on
// how it came to have it. Only its owner can read it: it holds private keys and the secrets of issuers' clients.
//
//	keeper, account, err := snapshot.Open(dir, identity, log)
//	... // let the services take over what account has
//	keeper.Start(take) // take tells what they have now
//	keeper.Changed()   // after each change
//	keeper.Close()
//
// It never looks into what services say of themselves.
package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// File is the name of the snapshot in its folder.
const File = "account.json"

// Version is that of the files that this program writes, and the only one that it reads.
const Version = 2

// Identity is what an account cannot change without becoming another one: ids, ARNs and addresses contain it.
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
	// Generation counts the resets and starts: ids of one generation are not made again in another.
	Generation uint64    `json:"generation"`
	SavedAt    time.Time `json:"savedAt"`
	// Services is what each service has, in its own form.
	Services map[string]json.RawMessage `json:"services"`
}

// Read reads the snapshot of a folder. It is fs.ErrNotExist if there is none. Other errors say which file it is, where it is wrong and
// what can be done.
func Read(dir string) (Account, error) {
	path := filepath.Join(dir, File)
	text, err := os.ReadFile(path)
	if err != nil {
		return Account{}, err
	}
	fail := func(format string, args ...any) (Account, error) {
		return Account{}, fmt.Errorf("cannot read the account in %s: %w; move the file away to begin with an empty account", path, fmt.Errorf(format, args...))
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return fail("%w", located(text, err))
	}
	switch {
	case version.Version > Version:
		return fail("it is of version %d, this program knows version %d: use the newer lockstep that wrote it", version.Version, Version)
	case version.Version != Version:
		return fail("it is of version %d, this program knows version %d", version.Version, Version)
	}
	var a Account
	if err := Decode(text, &a); err != nil {
		return fail("%w", err)
	}
	return a, nil
}

// Decode reads one JSON value, and nothing that it does not know. Errors tell the line.
func Decode(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return located(text, err)
	}
	return nil
}

// located adds the place to an error of JSON that knows its offset.
func located(text []byte, err error) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	if offset < 0 || offset > int64(len(text)) {
		return err
	}
	before := text[:offset]
	line := 1 + bytes.Count(before, []byte("\n"))
	return fmt.Errorf("line %d, byte %d: %w", line, offset, err)
}

// write replaces the snapshot of a folder at once.
func (a Account) write(dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write the account to %s: %w", filepath.Join(dir, File), err)
		}
	}()
	text, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(dir, File+".*.next") // only its owner may read it
	if err != nil {
		return err
	}
	_, err = next.Write(append(text, '\n'))
	err = errors.Join(err, next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), filepath.Join(dir, File))
	}
	if err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	return syncFolder(dir)
}

// syncFolder makes a rename outlast a power cut.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// sweep removes what writes have left that a crash broke off.
func sweep(dir string) error {
	broken, err := filepath.Glob(filepath.Join(dir, File+".*.next"))
	for _, path := range broken {
		if gone := os.Remove(path); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
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
			return fmt.Errorf("its %s is %v, not %v, and ids and addresses depend on it", d.what, d.kept, d.want)
		}
	}
	return nil
}
