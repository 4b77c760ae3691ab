// Package vfs is the little that a store engine needs of a file system, so
// that the engine runs unchanged on a real disk and on one in memory that
// forgets, tears and refuses as disks do. OS is the real one; Mem records
// every write, truncation, rename and sync, and builds what a power cut could
// leave behind. It knows nothing of what is stored; storeforward/journal is
// its caller.
package vfs

import (
	"errors"
	"io"
)

// ErrFull is returned by any call that needs space the disk does not have.
// OS returns it for ENOSPC and EDQUOT.
var ErrFull = errors.New("the disk is full")

// FS is one directory. Names have no separators. It is safe for concurrent
// use.
type FS interface {
	// Create makes a file that does not exist, open for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading and writing; fs.ErrNotExist when missing.
	Open(name string) (File, error)
	// Rename replaces to by from, atomically. Durable after SyncDir.
	Rename(from, to string) error
	// Remove unlinks a file. Durable after SyncDir.
	Remove(name string) error
	// List returns the names of all files, sorted.
	List() ([]string, error)
	// SyncDir makes creations, renames and removals durable.
	SyncDir() error
}

// File is one open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes all that was written durable, and the size as far as reading
	// it back needs (fdatasync). After an error nothing is known of what is
	// on the disk.
	Sync() error
	// Truncate sets the size.
	Truncate(size int64) error
	// Allocate reserves blocks up to size and sets the size, so that writes
	// below it neither grow the file nor run out of space. Bytes never
	// written read as zero. A file system that cannot reserve sets the size.
	Allocate(size int64) error
	// Size returns the present size.
	Size() (int64, error)
	Close() error
}
