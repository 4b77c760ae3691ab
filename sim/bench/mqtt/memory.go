package mqtt

import (
	"os"

	"github.com/farhop/farhop/sim/bench/proc"
)

// ownMemory is what this process holds that no file backs, in bytes.
func ownMemory() (int64, error) {
	m, err := proc.MemoryOf(os.Getpid())
	return m.Anonymous, err
}
