//go:build !linux

package boltstore

import "os"

// allocate extends f from size by n bytes.
func allocate(f *os.File, size, n int64) error { return extend(f, size, n) }
