//go:build !linux

package main

import "syscall"

// childAttr leaves the nodes in the process group of the campaign: Ctrl-C
// reaches them too, and ends them even when the campaign was killed.
func childAttr() *syscall.SysProcAttr { return nil }
