//go:build !linux

package sockopt

import (
	"errors"
	"syscall"
)

// Filters says whether the kernel takes filters at all.
const Filters = false

// SetFilter fails here, unless the filter drops nothing: clients are to be looked at when they have connected.
func SetFilter(_ syscall.Conn, f Filter) error {
	if f.DropsNothing() {
		return nil
	}
	return errors.ErrUnsupported
}

// ClearFilter does nothing here.
func ClearFilter(syscall.Conn) {}

// Deafen fails here.
func Deafen(syscall.Conn) error { return errors.ErrUnsupported }

// Dropped is 0 here.
func Dropped(syscall.Conn) uint32 { return 0 }

// Relay does nothing here, where there are no filters.
func Relay(uintptr) {}

// SharePorts does nothing here: an address can have as many connections as there are ephemeral ports.
func SharePorts(uintptr) {}

// Look does not tell anything here.
func Look(syscall.Conn) (Info, bool) { return Info{}, false }
