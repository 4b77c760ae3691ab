//go:build !linux

package bench

import (
	"os"
	"time"
)

// Elsewhere than on Linux a run measures rates alone; the figures of processes
// are 0.

func datasync(f *os.File) error { return f.Sync() }

func cpuOf(int) (time.Duration, error) { return 0, nil }

func ownCPU() time.Duration { return 0 }

func memoryOf(int) (now, peak int64, err error) { return 0, 0, nil }

func writtenBy(int) (int64, error) { return 0, nil }

func inMemory(string) bool { return false }
