package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/farhop/farhop/storeforward/store"
)

// errDiffers says that the new store does not hold what the old one does. It
// is never put in use then.
var errDiffers = errors.New("the new store does not hold what the old one holds; the old one stays in use")

// compare reads both stores side by side, all of them: messages, entries,
// payloads, state, summaries, and the incarnation. What was left behind of the
// old one is passed over.
func compare(ctx context.Context, old *source, now engine) (count, error) {
	var c count
	if a, b := old.store.Incarnation(), now.Incarnation(); a != b {
		return c, fmt.Errorf("%w: incarnation %d, was %d", errDiffers, b, a)
	}
	w, err := newWalk(now)
	if err != nil {
		return c, err
	}
	err = each(ctx, old.store, func(a *message) error {
		if a.lost != nil {
			return old.skip(&c, a)
		}
		c.add(a)
		b, err := w.next()
		if err != nil {
			return err
		}
		return sameMessage(a, b)
	})
	if err != nil {
		return c, err
	}
	if b, err := w.next(); err != nil || b != nil {
		return c, errors.Join(err, fmt.Errorf("%w: it holds more messages", errDiffers))
	}
	if err := sameState(ctx, &c, old.store, now); err != nil {
		return c, err
	}
	return c, sameSummary(&c, old.store, now)
}

func sameMessage(a, b *message) error {
	switch {
	case b == nil:
		return fmt.Errorf("%w: message %d is missing", errDiffers, a.header.Seq)
	case b.lost != nil:
		return fmt.Errorf("%w: message %d: %w", errDiffers, b.header.Seq, b.lost)
	case !sameHeader(a.header, b.header):
		return fmt.Errorf("%w: message %d has another header, or %d is in its place", errDiffers, a.header.Seq, b.header.Seq)
	case (a.payload == nil) != (b.payload == nil) || !bytes.Equal(a.payload, b.payload):
		return fmt.Errorf("%w: message %d has another payload, %d bytes, was %d", errDiffers, a.header.Seq, len(b.payload), len(a.payload))
	}
	return nil
}

// sameHeader compares two headers, their entries in the order of their queues:
// in which order they are stored is the engine's business.
func sameHeader(a, b *store.Header) bool {
	if a.Seq != b.Seq || a.Message != b.Message || a.Origin != b.Origin || a.Prev != b.Prev || a.Class != b.Class ||
		a.Hops != b.Hops || a.QoS != b.QoS || a.Retain != b.Retain || a.Topic != b.Topic || a.Service != b.Service ||
		a.Charge != b.Charge || a.Received != b.Received || a.Expires != b.Expires || a.Size != b.Size || a.Count != b.Count {
		return false
	}
	return slices.EqualFunc(sorted(a.Entries), sorted(b.Entries), func(x, y store.Entry) bool {
		return x.Queue == y.Queue && x.Bundle == y.Bundle && x.DSeq == y.DSeq && x.QoS == y.QoS && x.State == y.State &&
			(x.Frozen == nil) == (y.Frozen == nil) && bytes.Equal(x.Frozen, y.Frozen)
	})
}

func sorted(entries []store.Entry) []store.Entry {
	if len(entries) < 2 {
		return entries
	}
	return slices.SortedFunc(slices.Values(entries), func(a, b store.Entry) int { return compareQueues(a.Queue, b.Queue) })
}

// keyValue is one key of the state.
type keyValue struct {
	key   string
	value []byte
}

// stateOf goes through the state of a store; an error of the store ends it
// and is left in err.
func stateOf(s store.Store, err *error) iter.Seq[keyValue] {
	return func(yield func(keyValue) bool) {
		stop := errors.New("stop")
		e := s.State("", func(key string, value []byte) error {
			if !yield(keyValue{key, value}) {
				return stop
			}
			return nil
		})
		if !errors.Is(e, stop) {
			*err = e
		}
	}
}

func sameState(ctx context.Context, c *count, old, now store.Store) error {
	var errOld, errNow error
	next, stop := iter.Pull(stateOf(now, &errNow))
	defer stop()
	for a := range stateOf(old, &errOld) {
		c.state(a.key, a.value)
		b, ok := next()
		if err := errors.Join(errNow, ctx.Err()); err != nil {
			return err
		}
		if !ok || a.key != b.key || !bytes.Equal(a.value, b.value) {
			return fmt.Errorf("%w: state key %q", errDiffers, a.key)
		}
	}
	if errOld != nil {
		return errOld
	}
	if b, ok := next(); ok || errNow != nil {
		return errors.Join(errNow, fmt.Errorf("%w: state key %q is new", errDiffers, b.key))
	}
	return nil
}

// sameSummary compares what the new store says of itself with what was seen.
func sameSummary(c *count, old, now store.Store) error {
	was, err := old.Summary()
	if err != nil {
		return err
	}
	is, err := now.Summary()
	if err != nil {
		return err
	}
	want := c.summary(was.NextSeq)
	if is.NextSeq != want.NextSeq {
		return fmt.Errorf("%w: the next number is %d, was %d", errDiffers, is.NextSeq, want.NextSeq)
	}
	if len(is.Queues) != len(want.Queues) {
		return fmt.Errorf("%w: %d queues, were %d", errDiffers, len(is.Queues), len(want.Queues))
	}
	for i := range want.Queues {
		if is.Queues[i] != want.Queues[i] {
			return fmt.Errorf("%w: queue %+v, was %+v", errDiffers, is.Queues[i], want.Queues[i])
		}
	}
	return nil
}
