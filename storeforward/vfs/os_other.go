//go:build !linux

package vfs

import "syscall"

var errQuota error = syscall.ENOSPC // what a quota says differs from system to system

func (f *osFile) Sync() error { return full(f.f.Sync()) }

func (f *osFile) Allocate(size int64) error { return f.extend(size) }
