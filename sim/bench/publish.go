package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is one crowd of publishers and what became of their messages.
type load struct {
	publishers []*publisher
	acked      atomic.Int64 // of all
	wall       time.Duration
	killed     bool // the server was killed under it: lost connections are no errors
}

// publisher sends numbered messages, with window of them unacknowledged. Its
// goroutine writes and reads in turn: what it may have under way fits into the
// buffers of a local socket or is read by the server, so it cannot block both.
type publisher struct {
	*client
	number int
	total  int    // messages to send
	next   int    // number of the next one
	acked  []bool // by number
	topic  string
	window int

	packet   []byte // a whole PUBLISH, changed for each message
	id, body int    // offsets of packet id and payload in it

	free    []uint16 // packet ids
	flights []flight // by packet id
	spans   []uint32 // µs from PUBLISH to PUBACK, as they came
	out     []byte
}

// flight is an unacknowledged publish.
type flight struct {
	number int
	at     time.Time
	open   bool
}

// topicOf is where a publisher sends to.
func topicOf(number int) string { return fmt.Sprintf("bench/%04d/values", number) }

// template makes the PUBLISH of a publisher, with zeros where packet id and
// message number will be.
func template(number, size int) (packet []byte, id, body int) {
	payload := make([]byte, size)
	for i := payloadHeader; i < size; i++ {
		payload[i] = byte(i*167 + number) // not all zeros, not compressible to nothing
	}
	binary.BigEndian.PutUint64(payload, uint64(number))
	packet = appendPublish(nil, topicOf(number), 0, payload)
	body = len(packet) - size
	return packet, body - 2, body
}

// connectLoad connects the publishers. They wait for run.
func connectLoad(ctx context.Context, c Config, addr string) (*load, error) {
	l := &load{}
	for i := range c.Clients {
		cl, err := dial(ctx, addr, fmt.Sprintf("bench-%04d", i), true)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		total := c.Messages / c.Clients
		if i < c.Messages%c.Clients {
			total++
		}
		p := &publisher{
			client: cl, number: i, total: total, acked: make([]bool, total), topic: topicOf(i), window: c.Window,
			flights: make([]flight, c.Window+1), spans: make([]uint32, 0, total),
		}
		p.packet, p.id, p.body = template(i, c.Size)
		for id := c.Window; id > 0; id-- {
			p.free = append(p.free, uint16(id))
		}
		l.publishers = append(l.publishers, p)
	}
	return l, nil
}

func (l *load) close() error {
	var errs []error
	for _, p := range l.publishers {
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(errs...)
}

// run publishes until all is acknowledged, or, after limit, until what was sent
// is. kill is called once, from another goroutine, when killAfter messages are
// acknowledged or half the limit is over; nil never kills.
func (l *load) run(ctx context.Context, limit time.Duration, killAfter int, kill func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = l.close() })
	defer stop()
	begin := time.Now()
	end := begin.Add(limit)
	l.killed = kill != nil
	errs := make([]error, len(l.publishers)+1)
	var wg sync.WaitGroup
	for i, p := range l.publishers {
		wg.Go(func() { errs[i] = p.run(l, end) })
	}
	if kill != nil {
		half := begin.Add(limit / 2)
		for l.acked.Load() < int64(killAfter) && time.Now().Before(half) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		errs[len(l.publishers)] = kill()
	}
	wg.Wait()
	l.wall = time.Since(begin)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(errs...)
}

func (p *publisher) run(l *load, end time.Time) error {
	err := p.exchange(l, end)
	if n := (*net.OpError)(nil); l.killed && !errors.Is(err, os.ErrDeadlineExceeded) && (errors.As(err, &n) || endOfStream(err)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("publisher %d: after %d messages: %w", p.number, p.next, err)
	}
	return nil
}

func (p *publisher) exchange(l *load, end time.Time) error {
	for {
		now := time.Now()
		p.out = p.out[:0]
		if now.Before(end) {
			p.fill(now)
		}
		if err := p.conn.SetDeadline(now.Add(patience)); err != nil {
			return err
		}
		if len(p.out) > 0 {
			if _, err := p.conn.Write(p.out); err != nil {
				return err
			}
		}
		if len(p.free) == p.window {
			return nil
		}
		n, err := p.collect()
		l.acked.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// fill appends a PUBLISH for each free packet id.
func (p *publisher) fill(now time.Time) {
	for len(p.free) > 0 && p.next < p.total {
		id := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		p.flights[id] = flight{p.next, now, true}
		binary.BigEndian.PutUint16(p.packet[p.id:], id)
		binary.BigEndian.PutUint64(p.packet[p.body+8:], uint64(p.next))
		p.out = append(p.out, p.packet...)
		p.next++
	}
}

// collect waits for one PUBACK and takes all that came with it.
func (p *publisher) collect() (n int, err error) {
	for n == 0 || p.in.waiting() {
		pk, err := p.in.next()
		if err != nil {
			return n, err
		}
		id, err := pk.puback()
		if err != nil {
			return n, err
		}
		if int(id) >= len(p.flights) || !p.flights[id].open {
			return n, fmt.Errorf("PUBACK of packet %d, which is not under way", id)
		}
		f := &p.flights[id]
		p.spans = append(p.spans, uint32(time.Since(f.at)/time.Microsecond))
		p.acked[f.number], f.open = true, false
		p.free = append(p.free, id)
		n++
	}
	return n, nil
}

// spans returns how long each PUBACK took, sorted, in µs.
func (l *load) spans() []uint32 {
	var all []uint32
	for _, p := range l.publishers {
		all = append(all, p.spans...)
	}
	slices.Sort(all)
	return all
}

// percentile of sorted values, 0 when there are none.
func percentile(sorted []uint32, p float64) uint32 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}
