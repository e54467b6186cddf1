//go:build !linux

package rehearsal

import "syscall"

// childAttributes keep the terminal's signals from the child: the rehearsal ends it itself.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
