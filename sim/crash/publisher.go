package main

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// maxFlights is how many messages of a publisher are unanswered at one time.
const maxFlights = 24

// publisher publishes one flow with QoS 2. What it has not seen to its end it
// repeats when it is connected again, in the order of publishing (MQTT 5, 4.4
// and 4.6).
type publisher struct {
	session
	topic string
	pause time.Duration // mean, between two messages
	rng   *rand.Rand    // of run alone

	mu      sync.Mutex // guards what follows
	w       io.Writer  // nil while not connected
	flights []*flight  // oldest first
	packet  uint16     // last packet id
	hold    bool       // nothing new
	burst   int        // messages to publish without pause
	heavy   int        // large messages to publish first, without pause
}

// flight is a message that was published and not completed.
type flight struct {
	n       int
	packet  uint16
	payload []byte
	freed   bool // PUBREC was had: only PUBREL may follow
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	var conns sync.WaitGroup
	conns.Go(func() { p.session.run(ctx, p) })
	defer conns.Wait()
	for ctx.Err() == nil {
		pause := p.pause
		if p.step() {
			pause = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration((0.5 + p.rng.Float64()) * float64(pause))):
		}
	}
}

// step publishes one message if that is possible now, and reports whether the
// next is due at once.
func (p *publisher) step() (again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold || p.w == nil || len(p.flights) >= maxFlights {
		return false
	}
	f := &flight{n: p.ledger.publish(p.id), packet: p.nextPacket()}
	f.payload = makePayload(p.id, f.n, p.size())
	p.flights = append(p.flights, f)
	_ = p.send(f, false) // a broken connection is seen by its reader, and all of this repeated
	p.burst, p.heavy = max(p.burst-1, 0), max(p.heavy-1, 0)
	return p.burst+p.heavy > 0
}

// size of a message: mostly small, sometimes larger than what fits into one
// packet of a link.
func (p *publisher) size() int {
	if p.heavy > 0 {
		return 60_000
	}
	switch p.rng.IntN(50) {
	case 0:
		return 60_000
	case 1, 2, 3:
		return 4_000
	}
	return 30 + p.rng.IntN(200)
}

func (p *publisher) nextPacket() uint16 {
	for {
		p.packet = p.packet%65535 + 1
		if !slices.ContainsFunc(p.flights, func(f *flight) bool { return f.packet == p.packet }) {
			return p.packet
		}
	}
}

func (p *publisher) send(f *flight, again bool) error {
	c := packets.NewControlPacket(packets.PUBLISH)
	m := c.Content.(*packets.Publish)
	m.Topic, m.QoS, m.PacketID, m.Payload, m.Duplicate = p.topic, 2, f.packet, f.payload, again
	_, err := c.WriteTo(p.w)
	return err
}

// release sends PUBREL.
func (p *publisher) release(f *flight) error {
	c := packets.NewControlPacket(packets.PUBREL)
	c.Content.(*packets.Pubrel).PacketID = f.packet
	_, err := c.WriteTo(p.w)
	return err
}

func (p *publisher) connected(w io.Writer, _ bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.w = w
	for _, f := range p.flights {
		again := func() error { return p.send(f, true) }
		if f.freed {
			again = func() error { return p.release(f) }
		}
		if err := again(); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) handle(w io.Writer, c *packets.ControlPacket) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != w {
		return io.EOF
	}
	at := slices.IndexFunc(p.flights, func(f *flight) bool { return f.packet == c.PacketID() })
	if at < 0 {
		return nil
	}
	f := p.flights[at]
	switch answer := c.Content.(type) {
	case *packets.Pubrec:
		if !f.freed {
			p.ledger.answered(p.id, f.n, answer.ReasonCode)
		}
		if answer.ReasonCode >= 0x80 { // it ends here (MQTT 5, 4.3.3)
			p.flights = slices.Delete(p.flights, at, at+1)
			return nil
		}
		f.freed, f.payload = true, nil
		return p.release(f)
	case *packets.Pubcomp:
		p.flights = slices.Delete(p.flights, at, at+1)
	}
	return nil
}

// still holds new messages back, and reports whether all have been completed.
func (p *publisher) still(hold bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = hold
	return len(p.flights) == 0
}

// hurry publishes the next n messages without pauses.
func (p *publisher) hurry(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.burst = n
}

// load makes the next n messages large, and publishes them without pauses.
func (p *publisher) load(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heavy = n
}
