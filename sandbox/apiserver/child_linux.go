package apiserver

import "syscall"

// dieWithParent has the kernel kill the child when we die. The closing of its standard input would end it too,
// but only this reaches a child that is stopped or hangs.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
