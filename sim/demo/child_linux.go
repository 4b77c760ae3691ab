package demo

import "syscall"

// childAttr keeps Ctrl-C for the demo, which ends its nodes in order, and has
// the kernel end them should the demo itself be killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
