package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// subscriber is the client id of the session that is away.
const subscriber = "bench-subscriber"

// endTopic takes one message after the load: what the session still has is
// before it.
const endTopic = "bench/end"

// idleEnd is how long a session that lacks messages is listened to after the
// end came: a server may send late what it should have sent before.
const idleEnd = 2 * time.Second

// Drain is what a session got when it came back.
type Drain struct {
	Present    bool    `json:"present"`    // the server had kept the session
	Acked      int     `json:"acked"`      // messages the server had acknowledged
	Arrived    int     `json:"arrived"`    // of those, at least once
	Lost       int     `json:"lost"`       // of those, never
	Repeated   int     `json:"repeated"`   // arrivals after the first of a message
	OutOfOrder int     `json:"outOfOrder"` // first arrivals after a later message of their publisher
	PerSecond  float64 `json:"perSecond"`  // arrivals
	unasked    int     // arrivals of messages that were sent and not acknowledged
}

// prepareSession makes the session and lets it wait.
func prepareSession(ctx context.Context, addr string) error {
	c, err := dial(ctx, addr, subscriber, false)
	if err != nil {
		return err
	}
	return errors.Join(c.subscribe("#"), c.leave())
}

// tally counts arrivals against what was acknowledged.
type tally struct {
	Drain
	l       *load
	seen    [][]bool
	highest []int // number of the last message of a publisher, -1 before the first
	got     int
}

func newTally(l *load) *tally {
	t := &tally{l: l}
	for _, p := range l.publishers {
		t.seen = append(t.seen, make([]bool, p.total))
		t.highest = append(t.highest, -1)
		for _, ok := range p.acked {
			if ok {
				t.Acked++
			}
		}
	}
	return t
}

// arrival notes one message.
func (t *tally) arrival(payload []byte) error {
	if len(payload) < payloadHeader {
		return fmt.Errorf("a message of %d bytes arrived that nobody sent", len(payload))
	}
	from, number := binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])
	if from >= uint64(len(t.seen)) || number >= uint64(len(t.seen[from])) {
		return fmt.Errorf("message %d of publisher %d arrived, which nobody sent", number, from)
	}
	t.got++
	if t.seen[from][number] {
		t.Repeated++
		return nil
	}
	t.seen[from][number] = true
	if int(number) < t.highest[from] {
		t.OutOfOrder++
	}
	t.highest[from] = max(t.highest[from], int(number))
	if t.l.publishers[from].acked[number] {
		t.Arrived++
	} else {
		t.unasked++
	}
	return nil
}

// drain reconnects the session and takes what it has.
func drain(ctx context.Context, addr string, l *load) (Drain, error) {
	t := newTally(l)
	last, err := dial(ctx, addr, "bench-end", true)
	if err != nil {
		return t.Drain, err
	}
	if err := errors.Join(last.publish(endTopic, []byte("end")), last.leave()); err != nil {
		return t.Drain, err
	}
	begin := time.Now()
	c, err := dial(ctx, addr, subscriber, false)
	if err != nil {
		return t.Drain, err
	}
	defer c.conn.Close() // nothing is left to say
	if t.Present = c.present; t.Present {
		if err := t.take(ctx, c); err != nil {
			return t.Drain, fmt.Errorf("drain: after %d messages: %w", t.got, err)
		}
	}
	t.Lost = t.Acked - t.Arrived
	return t.finish(begin), nil
}

func (t *tally) finish(begin time.Time) Drain {
	if s := time.Since(begin).Seconds(); s > 0 {
		t.PerSecond = float64(t.got) / s
	}
	return t.Drain
}

// take acknowledges all arrivals until the end came and nothing is missing.
func (t *tally) take(ctx context.Context, c *client) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	var acks []byte
	ended, wait := false, patience
	for !ended || t.Arrived < t.Acked {
		if !c.in.waiting() {
			if _, err := c.conn.Write(acks); err != nil {
				return err
			}
			acks = acks[:0]
			if err := c.conn.SetDeadline(time.Now().Add(wait)); err != nil {
				return err
			}
		}
		p, err := c.in.next()
		if ended && errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
		m, err := p.publish()
		if err != nil {
			return err
		}
		acks = appendPuback(acks, m.id)
		if string(m.topic) == endTopic {
			ended, wait = true, idleEnd
			continue
		}
		if err := t.arrival(m.payload); err != nil {
			return err
		}
	}
	_, err := c.conn.Write(acks)
	return err
}

func endOfStream(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
