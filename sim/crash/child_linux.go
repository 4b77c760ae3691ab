package main

import "syscall"

// childAttr keeps Ctrl-C for the campaign, which ends its nodes, and has the
// kernel end them should the campaign itself be killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
