//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Clients of our own, for tests in which a node ends in the midst of what it
// does with them. They do by the letter what MQTT 3.1.1, 4.4 asks of a session
// that outlives its connections, use few packet ids again and again, and say
// what of a node's behaviour they may not see.
//
// The mosquitto clients of 2.0.11 do not. libmosquitto writes the PUBCOMP before
// it shows the message, and when that fails, since the connection was reset
// after the PUBREL, it drops the message (handle__pubrel: message__remove). It
// answers the PUBREL that the node repeats, and the message was never seen:
//
//	received PUBLISH (d0, q2, r0, m1922)    write PUBREC
//	received PUBREL (Mid: 1922)             write PUBCOMP: ECONNRESET
//	sending CONNECT, received CONNACK
//	received PUBREL (Mid: 1922)             write PUBCOMP
//
// mosquitto_pub notes as sent what it is given while it has no connection
// (message__release_to_inflight), and ends when the last message is
// acknowledged, whatever became of the others.

// exact is the session of one such client.
type exact struct {
	t  *testing.T
	d  *daemon
	id string

	clean bool     // the session ends with each connection
	login []string // user and password, or nothing

	mu     sync.Mutex // guards what follows
	faults []string
}

func (e *exact) fault(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = append(e.faults, e.id+": "+fmt.Sprintf(format, args...))
}

// check fails the test for what the node may not do.
func (e *exact) check() {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.faults) > 0 {
		e.t.Errorf("%d faults: %.600s", len(e.faults), fmt.Sprint(e.faults))
	}
}

// keep runs serve on one connection after another until it reports that all is
// done, or the test ends.
func (e *exact) keep(serve func(l *line) (over bool)) {
	var running sync.WaitGroup
	e.t.Cleanup(running.Wait)
	ctx := e.t.Context()
	running.Go(func() {
		for first := true; ctx.Err() == nil; first = false {
			l, present, asked := e.connect(ctx)
			if l == nil {
				return
			}
			if present == (first || e.clean) && !(first && !e.clean && asked) {
				e.fault("session present: %t, first connection: %t", present, first)
			}
			cut := context.AfterFunc(ctx, func() { _ = l.Close() })
			over := serve(l)
			cut()
			_ = l.Close()
			if over {
				return
			}
		}
	})
}

// connect tries until a node accepts the client; nil when ctx has ended. asked
// tells that a node may have taken an earlier CONNECT whose answer was lost.
func (e *exact) connect(ctx context.Context) (l *line, present, asked bool) {
	for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", e.d.mqtt)
		if err != nil {
			continue
		}
		l := &line{conn, bufio.NewReader(conn)}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		flags := byte(0)
		if e.clean {
			flags = 2
		}
		if len(e.login) > 0 {
			flags |= 0xC0
		}
		hello := [][]byte{prefixed("MQTT"), {4, flags, 0, 60}, prefixed(e.id)}
		for _, s := range e.login {
			hello = append(hello, prefixed(s))
		}
		err = l.send(0x10, hello...)
		kind, body, err2 := l.read()
		if err == nil && err2 == nil && kind == 0x20 && len(body) == 2 && body[1] == 0 {
			_ = conn.SetReadDeadline(time.Time{})
			return l, body[0] == 1, asked
		}
		asked = true
		_ = conn.Close() // the node ends, or is not there yet
	}
	return nil, false, false
}

// line is one connection.
type line struct {
	net.Conn
	r *bufio.Reader
}

func (l *line) send(kind byte, parts ...[]byte) error {
	body := bytes.Join(parts, nil)
	_, err := l.Write(append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...))
	return err
}

// read returns the next packet.
func (l *line) read() (kind byte, body []byte, err error) {
	if kind, err = l.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(l.r)
	if err == nil {
		body = make([]byte, min(n, 1<<20))
		_, err = io.ReadFull(l.r, body)
	}
	return kind, body, err
}

func prefixed(s string) []byte { return append(number(uint16(len(s))), s...) }

func number(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// listener is a subscriber.
type listener struct {
	exact
	filter     string
	qos        byte
	subscribed chan struct{} // closed
	known      map[uint16]string
	got        []string // guarded by mu
}

// listen starts a subscriber and waits until its session is there.
func listen(d *daemon, id, filter string, qos int) *listener {
	d.t.Helper()
	return listenAs(d, id, filter, qos, false)
}

// listenAs is listen; a clean session ends with each connection, and login is a
// user and a password, where they are asked for.
func listenAs(d *daemon, id, filter string, qos int, clean bool, login ...string) *listener {
	d.t.Helper()
	l := &listener{
		exact: exact{t: d.t, d: d, id: id, clean: clean, login: login}, filter: filter, qos: byte(qos), subscribed: make(chan struct{}), known: map[uint16]string{},
	}
	l.keep(l.serve)
	select {
	case <-l.subscribed:
	case <-time.After(patience):
		d.t.Fatalf("%s is not subscribed after %s", id, patience)
	}
	d.knows(d, filter)
	return l
}

func (l *listener) serve(c *line) (over bool) {
	told := false
	select {
	case <-l.subscribed:
		told = true
	default:
	}
	if !told || l.clean {
		clear(l.known)
		if c.send(0x82, number(1), prefixed(l.filter), []byte{l.qos}) != nil {
			return false
		}
	}
	for {
		kind, body, err := c.read()
		if err != nil {
			return false
		}
		switch kind & 0xF0 {
		case 0x90:
			if !told {
				close(l.subscribed)
			}
		case 0x30:
			err = l.take(c, kind, body)
		case 0x60:
			delete(l.known, binary.BigEndian.Uint16(body))
			err = c.send(0x70, body)
		default:
			l.fault("packet %#x % x", kind, body)
		}
		if err != nil {
			return false
		}
	}
}

// take handles a PUBLISH. What is QoS 2 counts when it comes (MQTT 3.1.1,
// 4.3.3, method A).
func (l *listener) take(c *line, kind byte, body []byte) error {
	rest := body[2+binary.BigEndian.Uint16(body):]
	id, message := binary.BigEndian.Uint16(rest), string(rest[2:])
	qos, dup := kind>>1&3, kind&8 != 0
	if qos != l.qos {
		l.fault("%s with QoS %d, want %d", message, qos, l.qos)
	}
	old, again := l.known[id]
	if again && (old != message || !dup) {
		l.fault("packet id %d of %s comes with %s, DUP %t, before its PUBREL", id, old, message, dup)
	}
	if !again {
		l.mu.Lock()
		l.got = append(l.got, message)
		l.mu.Unlock()
	}
	if qos == 2 {
		l.known[id] = message
		return c.send(0x50, number(id))
	}
	return c.send(0x40, number(id))
}

func (l *listener) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got)
}

// receive waits until all that was sent has come, and returns the tally.
func (l *listener) receive(sent []string) (r tally) {
	l.t.Helper()
	until(l.t, func() string { return fmt.Sprintf("%d messages at %s: %s", len(sent), l.id, r) }, func() bool {
		r = compare(sent, l.lines())
		return len(r.missing) == 0
	})
	l.check()
	return r
}

// talker is a publisher.
type talker struct {
	exact
	topic string
	qos   byte
	pause time.Duration
	rest  []string
	open  []*spoken // in the order of sending
	over  chan struct{}

	spent []string // guarded by mu: the messages that were sent, in order
	halt  bool     // guarded by mu: send nothing new
}

// spoken is a message between its PUBLISH and its last acknowledgement.
type spoken struct {
	id       uint16
	message  string
	received bool // PUBREC was had
}

const talkerWindow = 20 // and the packet ids it uses

// talk starts a publisher that pauses after each message.
func talk(d *daemon, id, topic string, qos int, pause time.Duration, messages ...string) *talker {
	k := &talker{exact: exact{t: d.t, d: d, id: id}, topic: topic, qos: byte(qos), pause: pause, rest: messages, over: make(chan struct{})}
	k.keep(k.serve)
	return k
}

// done waits until all is acknowledged.
func (k *talker) done() {
	k.t.Helper()
	select {
	case <-k.over:
	case <-time.After(patience):
		k.t.Fatalf("%s has no acknowledgement of all messages after %s", k.id, patience)
	}
	k.check()
}

func (k *talker) serve(c *line) (over bool) {
	in := c.packets()
	defer func() {
		_ = c.Close()
		for range in { // until its reader has ended
		}
	}()
	for _, s := range k.open {
		if k.say(c, s, true) != nil {
			return false
		}
	}
	next := time.NewTicker(k.pause)
	defer next.Stop()
	for k.more() || len(k.open) > 0 {
		var err error
		select {
		case p, ok := <-in:
			if !ok {
				return false
			}
			err = k.answered(c, p)
		case <-next.C:
			if len(k.open) == talkerWindow || !k.more() {
				continue
			}
			s := &spoken{id: k.free(), message: k.rest[0]}
			k.rest, k.open = k.rest[1:], append(k.open, s)
			k.mu.Lock()
			k.spent = append(k.spent, s.message)
			k.mu.Unlock()
			err = k.say(c, s, false)
		}
		if err != nil {
			return false
		}
	}
	close(k.over)
	return true
}

// more reports whether there is something new to send.
func (k *talker) more() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.rest) > 0 && !k.halt
}

// said returns what was sent so far.
func (k *talker) said() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.spent)
}

// enough ends the publisher before it has sent all, waits until what it sent is
// acknowledged, and returns that.
func (k *talker) enough() []string {
	k.t.Helper()
	k.mu.Lock()
	k.halt = true
	k.mu.Unlock()
	k.done()
	return k.said()
}

// packets reads until the connection ends.
func (l *line) packets() <-chan []byte {
	in := make(chan []byte)
	go func() { // ends with the connection, and in is read until then
		defer close(in)
		for {
			kind, body, err := l.read()
			if err != nil {
				return
			}
			in <- append([]byte{kind}, body...)
		}
	}()
	return in
}

// free is the lowest packet id that is not in use.
func (k *talker) free() (id uint16) {
	for id = 1; slices.ContainsFunc(k.open, func(s *spoken) bool { return s.id == id }); id++ {
	}
	return id
}

// say sends a PUBLISH, or the PUBREL when the node has the message.
func (k *talker) say(c *line, s *spoken, dup bool) error {
	if s.received {
		return c.send(0x62, number(s.id))
	}
	kind := 0x30 | k.qos<<1
	if dup {
		kind |= 8
	}
	return c.send(kind, prefixed(k.topic), number(s.id), []byte(s.message))
}

// answered takes in an acknowledgement.
func (k *talker) answered(c *line, p []byte) error {
	kind, id := p[0], uint16(0)
	if len(p) == 3 {
		id = binary.BigEndian.Uint16(p[1:])
	}
	at := slices.IndexFunc(k.open, func(s *spoken) bool { return s.id == id })
	switch {
	case at >= 0 && k.qos == 2 && kind == 0x50:
		k.open[at].received = true
		return k.say(c, k.open[at], false)
	case at >= 0 && k.qos == 1 && kind == 0x40, at >= 0 && kind == 0x70 && k.open[at].received:
		k.open = slices.Delete(k.open, at, at+1)
	default:
		k.fault("packet % x answers nothing", p)
	}
	return nil
}
