package failover

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// First bytes of MQTT 3.1.1 packets (2.2), and the topic of the stream.
const (
	connect    = 0x10
	connack    = 0x20
	publish1   = 0x32 // QoS 1
	puback     = 0x40
	subscribe  = 0x82
	suback     = 0x90
	maxPacket  = 1 << 16
	pauses     = 10     // times the time between two messages are a pause
	maxFlood   = 256    // messages without acknowledgement in a flood, and
	floodSize  = 1024   // their bytes
	maxWaiting = 60_000 // messages without acknowledgement: packet ids are 16 bits
)

// stream is a publisher at one node and a subscriber at another.
type stream struct {
	pub, sub net.Conn
	in, out  *bufio.Reader // of the subscriber and the publisher
	topic    string
	noise    rand.PCG
	flood    bool // as much as the nodes take, without a note of each message's times

	mu       sync.Mutex  // guards what follows
	sent     uint64      // messages published; their numbers are from 1
	times    []time.Time // when they were
	acked    uint64      // messages acknowledged: they are in the order of their numbers (4.6)
	arrivals []arrival   // of first copies, in order
	got      []bool      // by number
	came     uint64      // how many of them
	repeated int
	first    uint64 // message that arrived first: before it the nodes did not know of the subscriber
}

// arrival is a message that came.
type arrival struct {
	at time.Time
	n  uint64
}

// openStream connects both ends.
func openStream(ctx context.Context, from, to *member, flood bool) (_ *stream, err error) {
	s := &stream{topic: "bench/" + from.name + "/" + to.name, flood: flood}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.sub, s.in, err = dial(ctx, to.mqtt, "sub-"+from.name); err != nil {
		return nil, err
	}
	body := append([]byte{0, 1}, text(s.topic)...)
	if _, err := s.sub.Write(packet(subscribe, append(body, 1))); err != nil {
		return nil, err
	}
	if first, _, err := read(s.in); err != nil || first != suback {
		return nil, fmt.Errorf("subscribe: packet 0x%02x: %w", first, err)
	}
	s.pub, s.out, err = dial(ctx, from.mqtt, "pub-"+to.name)
	return s, err
}

func (s *stream) close() error {
	var errs []error
	for _, c := range []net.Conn{s.pub, s.sub} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func dial(ctx context.Context, at, client string) (net.Conn, *bufio.Reader, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	// Clean session, no keep-alive: this machine's connections do not fail.
	if _, err = conn.Write(packet(connect, append(append(text("MQTT"), 4, 2, 0, 0), text(client)...))); err == nil {
		var first byte
		var body []byte
		if first, body, err = read(in); err == nil && (first != connack || len(body) != 2 || body[1] != 0) {
			err = fmt.Errorf("packet 0x%02x % x", first, body)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("connect to %s: %w", at, err), conn.Close())
	}
	return conn, in, nil
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// packet frames a body (2.2.3).
func packet(first byte, body []byte) []byte {
	return append(append([]byte{first}, length(len(body))...), body...)
}

func length(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func read(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil || n > maxPacket {
		return 0, nil, fmt.Errorf("a packet of %d bytes: %w", n, err)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// publish sends a message every so often until ctx ends.
func (s *stream) publish(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n := 1
		if s.flood {
			n = maxFlood - s.waiting()
		} else if s.waiting() >= maxWaiting {
			return errors.New("the node acknowledges nothing")
		}
		for range n {
			if err := s.send(); err != nil {
				return err
			}
		}
	}
}

// waiting counts messages that are not acknowledged; in a flood those that have
// not arrived, for else the nodes' disks would fill up.
func (s *stream) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flood && s.first > 0 {
		return int(s.sent - s.first + 1 - s.came)
	}
	return int(s.sent - s.acked)
}

// send publishes one message: its number, and as much as it has to weigh.
func (s *stream) send() error {
	s.mu.Lock()
	s.sent++
	n := s.sent
	if !s.flood {
		s.times = append(s.times, time.Now())
	}
	s.mu.Unlock()
	body := binary.BigEndian.AppendUint16(text(s.topic), uint16((n-1)%maxWaiting)+1)
	body = binary.BigEndian.AppendUint64(body, n)
	if s.flood {
		for range floodSize/8 - 1 { // nothing can make it smaller
			body = binary.BigEndian.AppendUint64(body, s.noise.Uint64())
		}
	}
	_, err := s.pub.Write(packet(publish1, body))
	return err
}

// acknowledged reads what the publisher's node answers, until the connection
// ends.
func (s *stream) acknowledged() {
	for {
		first, _, err := read(s.out)
		if err != nil || first != puback {
			return
		}
		s.mu.Lock()
		s.acked++
		s.mu.Unlock()
	}
}

// arrive takes messages in, until the connection ends.
func (s *stream) arrive() {
	head := 2 + len(s.topic)
	for {
		first, body, err := read(s.in)
		if err != nil {
			return
		}
		if first&0xF6 != publish1 || len(body) < head+2+8 {
			continue
		}
		s.arrived(time.Now(), binary.BigEndian.Uint64(body[head+2:]))
		if _, err := s.sub.Write(packet(puback, body[head:head+2])); err != nil {
			return
		}
	}
}

func (s *stream) arrived(now time.Time, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || n > s.sent {
		return // not ours
	}
	for uint64(len(s.got)) <= n {
		s.got = append(s.got, false)
	}
	if s.got[n] {
		s.repeated++
		return
	}
	if s.first == 0 {
		s.first = n
	}
	s.got[n] = true
	if s.came++; !s.flood {
		s.arrivals = append(s.arrivals, arrival{now, n})
	}
}

// gap returns the longest time without an arrival that ended after from and
// began before to.
func (s *stream) gap(from, to time.Time) (most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := from
	for _, a := range s.arrivals {
		if a.at.Before(from) {
			last = a.at
			continue
		}
		most = max(most, a.at.Sub(last))
		if last = a.at; a.at.After(to) {
			return most
		}
	}
	return max(most, to.Sub(last))
}

// through returns how long after a moment a message arrived that was published
// after it; false when none did.
func (s *stream) through(from time.Time) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, _ := slices.BinarySearchFunc(s.arrivals, from, func(a arrival, t time.Time) int { return a.at.Compare(t) })
	for _, a := range s.arrivals[at:] {
		if s.times[a.n-1].After(from) {
			return a.at.Sub(from), true
		}
	}
	return 0, false
}

// flows reports whether messages came without a pause for a while, until now.
func (s *stream) flows(now time.Time, every time.Duration) bool {
	pause := s.gap(now.Add(-steady), now)
	return pause < max(pauses*every, steady/2)
}

// settled reports whether every message is acknowledged and has arrived. What
// was just sent may be acknowledged before it arrives.
func (s *stream) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked == s.sent && s.came >= s.sent-s.first+1
}

// lost counts acknowledged messages that have not arrived.
func (s *stream) lost() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := s.first; m <= s.acked; m++ {
		if m >= uint64(len(s.got)) || !s.got[m] {
			n++
		}
	}
	return n
}

func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.came)
}
