package load

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// streamTopic is where Fill publishes and Drain subscribes.
const streamTopic = "bench/stream"

// Stream is one publisher's numbered messages to one subscriber, the two at
// different times: they wait in the subscriber's session.
type Stream struct {
	Addr    string // HOST:PORT of the broker
	Count   uint64
	Size    int           // bytes of a payload, MinPayload or more
	Unacked int           // publishes under way
	Stall   time.Duration // without any progress, after which it is given up
}

// Taken is what Drain got.
type Taken struct {
	Arrived uint64        // repeats among them
	Missing uint64        // numbers that were passed over, or never came
	Wrong   uint64        // came again, or after a later one
	First   time.Duration // until the first one came
	Time    time.Duration // from then to the last one
}

func (s Stream) start() (*Load, error) {
	c := Config{Publish: s.Addr, Publishers: 1, Subscribers: 1, QoS: 1, Size: s.Size, Window: s.Unacked, Unacked: s.Unacked}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	loop, err := NewLoop()
	return &Load{cfg: c, loop: loop, batch: max(1, s.Unacked/8)}, err
}

func (Stream) subscriber() Client { return Client{Name: "bench-stream-sub", Persistent: true} }

// Subscribe makes the subscriber's session, and leaves.
func (s Stream) Subscribe(ctx context.Context) error {
	who := s.subscriber()
	who.Filter, who.QoS = streamTopic, 1
	conn, _, err := who.greet(ctx, s.Addr)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte{Disconnect, 0})
	return errors.Join(err, conn.Close())
}

// Fill publishes all messages and returns when each is acknowledged. progress
// hears now and then how many are.
func (s Stream) Fill(ctx context.Context, progress func(acked uint64)) (err error) {
	l, err := s.start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	p := newPublisher(l, 0, streamTopic)
	p.last = s.Count
	if p.Conn, err = l.loop.Dial(ctx, s.Addr, Client{Name: "bench-stream-pub"}, p); err != nil {
		return err
	}
	moved := time.Now()
	for p.acked < s.Count {
		before := p.acked
		if err := errors.Join(p.fill(), l.loop.Turn(turnWait), ctx.Err()); err != nil {
			return err
		}
		if now := time.Now(); p.acked > before {
			moved = now
		} else if now.Sub(moved) > s.Stall {
			return fmt.Errorf("%w after %d of %d messages were acknowledged", ErrStalled, p.acked, s.Count)
		}
		progress(p.acked)
	}
	return nil
}

// Drain resumes the subscriber's session and takes what waits there.
func (s Stream) Drain(ctx context.Context, progress func(arrived uint64)) (t Taken, err error) {
	l, err := s.start()
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	sub := &subscriber{l: l, qos: 1, next: make([]uint64, 1)}
	began := time.Now()
	if sub.Conn, err = l.loop.Dial(ctx, s.Addr, s.subscriber(), sub); err != nil {
		return t, err
	}
	moved, last := time.Now(), uint64(0)
	// Beyond the last one it waits a little for what should not come.
	for end := s.Stall; time.Since(moved) < end; {
		if err := errors.Join(l.loop.Turn(turnWait), ctx.Err()); err != nil {
			return t, err
		}
		if l.out == last {
			continue
		}
		moved = time.Now()
		if last == 0 {
			t.First, began = moved.Sub(began), moved
		}
		last, t.Time = l.out, moved.Sub(began)
		if progress(last); sub.next[0] >= s.Count {
			end = min(end, time.Second)
		}
	}
	t.Arrived, t.Missing, t.Wrong = l.out, sub.missing+s.Count-min(sub.next[0], s.Count), sub.wrong
	return t, nil
}
