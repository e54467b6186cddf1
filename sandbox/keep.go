package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// claim takes the addresses of the VPC: those of the account that is kept, if there is one.
func (s *Sandbox) claim() (*address.VPC, error) {
	if s.config.DataDir == "" {
		return address.Claim()
	}
	if err := s.openDataDir(); err != nil {
		return nil, err
	}
	account, err := snapshot.Read(s.config.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return address.Claim()
	case err != nil:
		return nil, err
	}
	vpc, err := address.ClaimOctet(account.Octet)
	if err != nil {
		return nil, fmt.Errorf("cannot go on with the account in %s, whose VPC is 10.%d.0.0/16: %w", s.config.DataDir, account.Octet, err)
	}
	return vpc, nil
}

// openDataDir makes the folder and locks it: two sandboxes would write over each other.
func (s *Sandbox) openDataDir() error {
	dir := s.config.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make --data-dir: %w", err)
	}
	guard, err := lock(dir)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("--data-dir %s is that of another sandbox that runs", dir)
	}
	if err != nil {
		return fmt.Errorf("cannot lock --data-dir %s: %w", dir, err)
	}
	s.kept = append(s.kept, guard)
	if !s.config.KeepJournal {
		return nil
	}
	journal, err := os.OpenFile(filepath.Join(dir, "journal.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot keep the journal: %w", err)
	}
	s.kept, s.journal = append(s.kept, journal), journal
	return nil
}
