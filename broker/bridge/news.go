package bridge

import (
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

// news tells attempts of one outage apart that fail for different reasons, so
// that the log has each once. Safe for concurrent use.
type news struct {
	mu    sync.Mutex
	since time.Time // of the outage, zero: there is none
	last  string    // why its last attempt failed
}

// down notes why a link ended or an attempt failed, and reports whether that is
// not known already.
func (n *news) down(now time.Time, err error) bool {
	text := plain(err)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.since.IsZero() {
		n.since, n.last = now, ""
	}
	fresh := text != n.last
	n.last = text
	return fresh
}

// up notes a link, and says how long there was none, 0 for the first.
func (n *news) up(now time.Time) (was time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.since.IsZero() {
		was = now.Sub(n.since)
	}
	n.since, n.last = time.Time{}, ""
	return was
}

// plain is an error without our own port, which is another at each attempt.
func plain(err error) string {
	text := err.Error()
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Source != nil {
		text = strings.ReplaceAll(text, op.Source.String(), "")
	}
	return text
}
