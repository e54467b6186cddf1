//go:build !linux

package apiserver

import "syscall"

// dieWithParent does nothing where the kernel has no such service: the child ends when its standard input is
// closed.
func dieWithParent(*syscall.SysProcAttr) {}
