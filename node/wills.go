package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// The core keeps wills, in memory and on disk, encoded like the publications
// that they become.

// willOf encodes the will of a CONNECT, nil for none.
func willOf(w *broker.Will) (*core.Will, error) {
	if w == nil {
		return nil, nil
	}
	p := published(w.Message)
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("%w: the will is none that other nodes take: %w", broker.ErrQuota, err)
	}
	s := submissionOf(w.Message, &p)
	return &core.Will{
		Topic: s.Topic, Class: s.Class, QoS: s.QoS, Retain: s.Retain, Clear: s.Clear, TTL: s.TTL, Delay: w.Delay, Blob: s.Blob,
	}, nil
}

// errSessions refuses a session beyond the limit.
var errSessions = fmt.Errorf("%w: too many sessions at this node; raise mqtt.limits.sessions, or have devices end theirs", broker.ErrQuota)

// notOpened is why the core did not open a session, nil when it did.
func notOpened(r bundle.Reason) error {
	switch r {
	case bundle.OK:
		return nil
	case bundle.SessionEnded: // while it waited for what other nodes have of it
		return errors.New("the client came to another node meanwhile, or an operator ended its session")
	case bundle.QuotaExceeded, bundle.TooLarge, bundle.StoreFull:
		return fmt.Errorf("%w: no room for its will: %s", broker.ErrQuota, r)
	default:
		return errors.New(r.String())
	}
}

// ForgetWill implements broker.Node.
func (m *mqtt) ForgetWill(client string, conn uint64) {
	m.loop.in.put(func(now time.Time, c *core.Core) { c.ForgetWill(now, client, conn) })
}

// stamped is core.Config.Stamped.
func stamped(block *store.Blob, s core.Stamp) *store.Blob {
	data, err := bundle.PayloadData(block.B)
	if err != nil {
		return block // willOf made it: cannot be
	}
	w, err := wire.ParseMessage(data)
	if err != nil {
		return block
	}
	w.Stamp = uint64(s)
	return &store.Blob{B: encode(&w, len(block.B)+16)}
}
