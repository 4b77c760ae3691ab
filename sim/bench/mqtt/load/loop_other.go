//go:build !linux

package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Loop needs epoll. On other systems than Linux there is none.
type Loop struct{}

// Conn is a connection of a loop.
type Conn struct{}

func missing() error {
	return fmt.Errorf("the load needs epoll: run it on Linux: %w", errors.ErrUnsupported)
}

// NewLoop fails.
func NewLoop() (*Loop, error) { return nil, missing() }

// Dial fails.
func (*Loop) Dial(context.Context, string, Client, Handler) (*Conn, error) { return nil, missing() }

// DialMany fails.
func (*Loop) DialMany(context.Context, string, int, func(int) (Client, Handler)) error {
	return missing()
}

// Open returns 0.
func (*Loop) Open() int { return 0 }

// Ended returns 0.
func (*Loop) Ended() int { return 0 }

// Turn fails.
func (*Loop) Turn(time.Duration) error { return missing() }

// Close does nothing.
func (*Loop) Close() error { return nil }

// Send fails.
func (*Conn) Send([]byte) error { return missing() }

// Buffer returns nil.
func (*Conn) Buffer() []byte { return nil }

// Blocked reports false.
func (*Conn) Blocked() bool { return false }

// Close does nothing.
func (*Conn) Close() error { return nil }

// AllowDescriptors fails.
func AllowDescriptors() (int, error) { return 0, missing() }
