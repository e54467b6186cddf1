//go:build !linux

package local

import "syscall"

// dieWithParent does nothing where the kernel offers nothing like it.
func dieWithParent(*syscall.SysProcAttr) {}

// await returns when the process has ended. The number of its group stays taken while anybody is in it.
func (p *Process) await() {
	_ = p.cmd.Wait()
	p.endGroup()
}
