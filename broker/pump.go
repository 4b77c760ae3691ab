package broker

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"github.com/farhop/farhop/broker/listen"
)

const pumpBuffer = 4 << 10 // bytes per connection

// pump is the driver of a connection that cannot be polled (TLS, WebSocket,
// QUIC, in memory): a goroutine that reads, and a second one as long as there
// is something to write.
type pump struct {
	c   *conn
	raw net.Conn

	mu   sync.Mutex
	turn sync.Cond // something may no longer hold the input

	// Guarded by c.mu.
	writing bool // a writer runs
	sealed  bool // no further writer may start
	idle    sync.Cond
}

func newPump(c *conn, raw net.Conn) *pump {
	p := &pump{c: c, raw: raw}
	p.turn.L, p.idle.L = &p.mu, &c.mu
	return p
}

// serve runs the connection from accept to close.
func (p *pump) serve() {
	buf := make([]byte, pumpBuffer)
	for {
		if p.await(); p.c.stopped {
			p.c.feed(nil, time.Now(), math.MaxInt)
			continue
		}
		if p.c.closing.Load() {
			break
		}
		p.deadline()
		n, err := p.raw.Read(buf)
		if n > 0 {
			p.c.feed(buf[:n], time.Now(), math.MaxInt)
		}
		if err == nil || n > 0 { // TLS tells of the end along with the last bytes: they may be held back
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !p.c.closing.Load() {
			p.c.disconnect(codeKeepAlive, cause(codeKeepAlive))
		}
		p.c.disconnect(noDisconnectMessage, "connection-lost")
	}
	p.c.ended()
	p.seal()
	p.linger()
	_ = p.raw.Close()
}

// await returns when nothing holds the input.
func (p *pump) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.c.holds.Load() > 0 {
		p.turn.Wait()
	}
}

// deadline gives the client its time to be heard.
func (p *pump) deadline() {
	var t time.Time
	if d := p.c.patience(); d > 0 {
		t = time.Now().Add(d)
	}
	_ = p.raw.SetReadDeadline(t)
	if p.c.closing.Load() {
		_ = p.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

func (p *pump) remote() string { return p.raw.RemoteAddr().String() }

func (p *pump) peer() listen.Peer { return peerOf(p.raw, listen.TCP) }

func (p *pump) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn.Broadcast()
}

func (p *pump) stop() {
	p.kick()
	_ = p.raw.SetWriteDeadline(time.Now().Add(flushTimeout))
	_ = p.raw.SetReadDeadline(time.Unix(1, 0))
	p.wake()
}

// kick starts the writer if there is none. A writer lives as long as it finds
// something to write, so an idle client costs no second stack.
func (p *pump) kick() {
	if p.writing || p.sealed {
		return
	}
	p.writing = true
	go p.write() // seal waits for its end
}

// write writes until nothing is left, one socket write per batch.
func (p *pump) write() {
	box := p.c.b.buffers.Get().(*batch)
	defer p.c.b.buffers.Put(box)
	for {
		for p.c.gather(box, time.Now()) {
			if !p.send(box.buf) {
				return
			}
		}
		p.c.mu.Lock()
		if p.c.idleLocked() {
			p.writing = false
			p.idle.Broadcast()
			p.c.mu.Unlock()
			return
		}
		p.c.mu.Unlock()
	}
}

// send writes and reports whether the connection still lives.
func (p *pump) send(b []byte) bool {
	p.c.mu.Lock()
	_ = p.raw.SetWriteDeadline(time.Now().Add(p.c.stall()))
	p.c.mu.Unlock()
	if _, err := p.raw.Write(b); err == nil {
		return true
	}
	p.c.disconnect(noDisconnectMessage, "connection-lost")
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.control, p.c.said, p.writing, p.sealed = nil, false, false, true
	p.idle.Broadcast()
	return false
}

// seal waits for the writer's last bytes and lets none start again.
func (p *pump) seal() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for p.writing {
		p.idle.Wait()
	}
	p.sealed = true
}

// linger lets the client read our last packet: closing a socket with unread
// input resets it, and the reset overtakes what was written.
func (p *pump) linger() {
	p.c.mu.Lock()
	said := p.c.said
	p.c.mu.Unlock()
	half, ok := p.raw.(interface{ CloseWrite() error })
	if !said || !ok || half.CloseWrite() != nil {
		return
	}
	_ = p.raw.SetReadDeadline(time.Now().Add(lingerFor(pathOfConn(p.raw))))
	_, _ = io.CopyN(io.Discard, p.raw, lingerBytes)
}
