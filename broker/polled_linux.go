package broker

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/farhop/farhop/broker/listen"
)

// phase is how far the end of a polled connection has come.
type phase uint8

const (
	phaseNew    phase = iota // not in the loop yet
	phaseOpen                // reading and writing
	phaseLast                // the session is over, the last bytes go out
	phaseLinger              // our side is closed, the client reads
	phaseClosed
)

// socket is what a polled connection reads and writes. Nothing of it blocks:
// what cannot be done now fails with EAGAIN, and the loop hears when it can.
type socket interface {
	read(p []byte) (int, error)
	write(p []byte) (int, error)
	// watch says what the loop waits for, instead of what it did before.
	watch(l *poller, events uint32) error
	// unwatch takes the socket out of the loop.
	unwatch(l *poller)
	// shut says that nothing more will be written.
	shut() error
	close()
	remote() string
	transport() string
	// again reports what of the events is there already and will not be told.
	again(events uint32) uint32
}

// polled is the driver of a socket in a poller's loop. All of it but queued
// belongs to the loop.
type polled struct {
	c        *conn
	l        *poller
	sock     socket
	interest uint32
	phase    phase
	blocked  bool // the socket takes no more: unsent waits for EPOLLOUT
	muted    bool // not read: something holds the input
	timed    bool // the client's own patience counts
	deaf     bool // out of epoll: nothing more comes
	broke    bool // the client is gone, its last input is held
	more     bool // input is left for the next turn
	unsent   []byte
	heard    moment // when something was read last
	blockAt  moment // when it blocked, or entered its phase
	linger   int32  // bytes read in phaseLinger
	timer    wheelEntry

	queued atomic.Bool // in the loop's work
}

// serveSocket takes a connected socket. It reports false when there are too
// many; the socket is closed then.
func (b *Broker) serveSocket(l *poller, make func(p *polled) socket) bool {
	c := &conn{b: b, num: b.conns.Add(1)}
	p := &polled{c: c, l: l}
	p.sock, p.timer.p, c.driver = make(p), p, p
	if !b.enter(c) {
		p.sock.close()
		return false
	}
	p.mark()
	return true
}

// mark puts the connection into the loop's work, once.
func (p *polled) mark() {
	if !p.queued.Swap(true) {
		p.l.add(p)
	}
}

func (p *polled) wake() { p.mark() }
func (p *polled) kick() { p.mark() }
func (p *polled) stop() { p.mark() }

func (p *polled) remote() string { return p.sock.remote() }

// peer says no more than the transport: a polled socket proves nothing.
func (p *polled) peer() listen.Peer { return listen.Peer{Transport: p.sock.transport()} }

// serve does what was asked for: enter the loop, go on with input that was
// held, write, end.
func (p *polled) serve() {
	switch p.phase {
	case phaseNew:
		p.begin()
	case phaseOpen:
		p.goOn()
	case phaseClosed:
		return
	case phaseLast, phaseLinger:
	}
	p.flush()
	if p.c.closing.Load() {
		p.wind()
	}
	if p.phase != phaseClosed {
		p.onEvents(p.sock.again(p.interest))
	}
}

// begin enters the loop.
func (p *polled) begin() {
	p.phase, p.heard = phaseOpen, p.l.moment()
	p.interest = unix.EPOLLIN
	if err := p.sock.watch(p.l, p.interest); err != nil {
		p.c.b.cfg.Log.Warn("mqtt accept failed", "err", err)
		p.c.disconnect(noDisconnectMessage, "connection-lost")
	}
	p.schedule()
}

// goOn handles input that was held. What the client sent while we did not read
// counts as heard now.
func (p *polled) goOn() {
	if p.c.holds.Load() > 0 {
		return
	}
	if len(p.c.in) > 0 && !p.c.closing.Load() {
		p.feed(nil)
	}
	if p.c.holds.Load() > 0 || p.more {
		return
	}
	if p.broke {
		p.lost()
		return
	}
	if p.muted && !p.c.closing.Load() {
		p.muted, p.heard = false, p.l.moment()
		p.arm()
	}
	if !p.timed && p.c.greeted && !p.c.proving() {
		p.timed, p.heard = true, p.l.moment() // from the time for a CONNECT to the client's keep-alive
		p.schedule()
	}
}

// onEvents handles what the socket is ready for.
func (p *polled) onEvents(events uint32) {
	if events&unix.EPOLLOUT != 0 && p.blocked {
		p.blocked = false
		p.arm()
		p.mark()
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLRDHUP|unix.EPOLLERR) != 0 {
		p.readable(events&(unix.EPOLLHUP|unix.EPOLLERR) != 0)
	}
}

// readable reads once and has it handled.
func (p *polled) readable(broken bool) {
	// What stopped feed may be over already: goOn comes first all the same.
	held := p.c.holds.Load() > 0 || p.more || p.c.stopped
	switch {
	case p.phase == phaseLinger:
		p.drain()
		return
	case p.phase == phaseClosed:
		return
	case (p.phase != phaseOpen || p.c.closing.Load()) && broken:
		p.forget()
		return
	case p.phase != phaseOpen || p.c.closing.Load(), held && !broken: // drain reads what comes while it ends
		p.muted = true
		p.arm()
		return
	}
	size := p.l.turns.bytes(len(p.c.in))
	n, err := p.sock.read(p.l.buf[:size])
	switch {
	case n > 0:
		p.heard = p.l.moment()
		p.feed(p.l.buf[:n])
		if n == size && !p.more {
			p.l.turns.busy++
		}
		if p.sock.again(unix.EPOLLIN) != 0 {
			p.mark() // after the others
		}
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
	case held && len(p.c.in) > 0: // it may have said DISCONNECT: that is handled first
		p.broke = true
		p.forget()
	default:
		p.lost()
	}
}

// feed has input handled, as much as is due to it in this turn.
func (p *polled) feed(b []byte) {
	if p.more = p.c.feed(b, p.l.now, p.l.turns.work()); p.more {
		p.l.turns.busy++
		p.mark() // after the others
	}
}

// lost ends a connection whose client is gone.
func (p *polled) lost() {
	p.forget()
	p.c.disconnect(noDisconnectMessage, "connection-lost")
}

// forget takes the socket out of epoll: level-triggered, its end would be
// reported for ever.
func (p *polled) forget() {
	if !p.deaf {
		p.deaf = true
		p.sock.unwatch(p.l)
	}
}

// arm tells epoll what is waited for.
func (p *polled) arm() {
	want := uint32(0)
	if !p.muted {
		want |= unix.EPOLLIN
	}
	if p.blocked {
		want |= unix.EPOLLOUT
	}
	if want == p.interest || p.deaf {
		return
	}
	p.interest = want
	_ = p.sock.watch(p.l, want)
}

// flush writes what waits, as far as the socket takes it.
func (p *polled) flush() {
	for n := 0; !p.blocked && p.phase < phaseLinger; n++ {
		if n == flushTurns {
			p.mark() // after the others
			return
		}
		if len(p.unsent) > 0 {
			if !p.send(p.unsent, true) {
				return
			}
			p.unsent = nil
			p.c.heldOut.Store(0)
		}
		if p.c.gather(&p.l.box, p.l.now) {
			if !p.send(p.l.box.buf, false) {
				return
			}
			continue
		}
		p.c.mu.Lock()
		idle := p.c.idleLocked()
		p.c.mu.Unlock()
		if !idle {
			p.mark() // after the others: it looks for retained messages among many
		}
		return
	}
}

// send writes b and reports whether all of it went. What did not waits in
// unsent; kept says that b is there already.
func (p *polled) send(b []byte, kept bool) bool {
	for len(b) > 0 {
		n, err := p.sock.write(b)
		if n > 0 {
			b = b[n:]
			continue
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) && !p.deaf {
			if !kept {
				b = append([]byte(nil), b...)
			}
			p.unsent, p.blocked, p.blockAt = b, true, p.l.moment()
			p.c.heldOut.Store(int32(len(b)))
			p.arm()
			p.schedule()
			return false
		}
		p.unsent = nil
		p.c.mu.Lock()
		p.c.control, p.c.said = nil, false
		p.c.mu.Unlock()
		p.lost()
		return false
	}
	return true
}

// wind ends the connection, step by step.
func (p *polled) wind() {
	if p.phase == phaseOpen {
		if p.c.holds.Load() > 0 {
			return // release wakes us
		}
		p.phase, p.blockAt = phaseLast, p.l.moment()
		p.c.ended()
		p.flush()
		p.schedule()
	}
	if p.phase == phaseLast && !p.blocked {
		p.c.mu.Lock()
		said := p.c.said
		p.c.mu.Unlock()
		if !said || p.deaf || p.sock.shut() != nil {
			p.shut()
			return
		}
		p.phase, p.blockAt, p.muted = phaseLinger, p.l.moment(), false
		p.arm()
		p.schedule()
	}
}

// drain lets the client read our last packet: closing a socket with unread
// input resets it, and the reset overtakes what was written.
func (p *polled) drain() {
	n, err := p.sock.read(p.l.buf)
	if p.linger += int32(max(n, 0)); n > 0 && p.linger < lingerBytes || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	p.shut()
}

// shut closes the socket.
func (p *polled) shut() {
	p.phase = phaseClosed
	p.l.wheel.remove(&p.timer)
	p.forget()
	p.sock.close()
	p.unsent = nil
	p.c.b.leave(p.c)
}

// schedule sets the time at which onTime is due.
func (p *polled) schedule() { p.l.wheel.set(&p.timer, p.due()) }

// due is when the client's patience, or ours, ends; zero is never.
func (p *polled) due() (t moment) {
	switch p.phase {
	case phaseLast:
		return p.blockAt.add(flushTimeout)
	case phaseLinger:
		return p.blockAt.add(lingerFor(pathOf(p.sock)))
	case phaseNew, phaseOpen, phaseClosed:
	}
	if p.c.holds.Load() == 0 && !p.more && !p.muted {
		if d := p.c.patience(); d > 0 {
			t = p.heard.add(d)
		}
	} else {
		t = p.l.moment().add(tickEvery) // ask again when the input is ours, and was looked at
	}
	if p.blocked {
		if s := p.blockAt.add(p.c.stall()); t == 0 || s < t {
			t = s
		}
	}
	return t
}

// onTime ends what took too long, or looks again later.
func (p *polled) onTime() {
	due := p.due()
	now := p.l.moment()
	if due == 0 || due > now {
		p.schedule()
		return
	}
	switch {
	case p.phase >= phaseLast:
		p.shut()
	case p.blocked && p.blockAt.add(p.c.stall()) <= now:
		p.blocked, p.unsent = false, nil
		p.c.mu.Lock()
		p.c.control = nil
		p.c.mu.Unlock()
		p.lost()
	default:
		p.c.disconnect(codeKeepAlive, cause(codeKeepAlive))
	}
}
