//go:build !linux

package demo

import "syscall"

// childAttr leaves the nodes in the process group of the demo: Ctrl-C reaches
// them too, and that ends them even when the demo was killed.
func childAttr() *syscall.SysProcAttr { return nil }
