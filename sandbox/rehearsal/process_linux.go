package rehearsal

import "syscall"

// childAttributes make the child die with this process, in whatever way this one ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
