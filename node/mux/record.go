package mux

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// record stands between TLS and TCP: it joins the records of one write, which
// saves calls of the system. What TLS reads needs no help: its own buffer grows
// until it takes four records at a time.
type record struct {
	net.Conn
	hello helloClock

	shook int // bytes of the handshake, -1 when it is over

	mu     sync.Mutex // TLS may answer while it reads
	out    []byte     // of the write under way
	joined bool       // writes wait for flush

	sent, received atomic.Uint64 // bytes
}

// joinedLen is a batch with what TLS adds to it.
const joinedLen = 72 << 10

// maxHandshake is the most that a peer sends before it is known who it is, in
// bytes: three certificates of 4 KiB, what TLS has beside them, and two records
// that may follow at once. TLS itself would take 320 KiB of each stranger.
const maxHandshake = 64 << 10

func newRecord(nc net.Conn) *record {
	return &record{Conn: nc}
}

func (r *record) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.received.Add(uint64(n))
	if r.shook >= 0 {
		if r.shook += n; r.shook > maxHandshake {
			return 0, fmt.Errorf("a handshake of more than %d bytes: %w", maxHandshake, ErrProtocol)
		}
	}
	r.hello.read()
	return n, err
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.joined {
		r.hello.wrote()
		return r.send(p)
	}
	if len(r.out)+len(p) > joinedLen {
		if err := r.empty(); err != nil {
			return 0, err
		}
	}
	r.out = append(r.out, p...)
	return len(p), nil
}

// flush writes what was joined.
func (r *record) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.empty()
}

func (r *record) empty() error {
	_, err := r.send(r.out)
	r.out = r.out[:0]
	return err
}

func (r *record) send(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.Conn.Write(p)
	r.sent.Add(uint64(n))
	return n, err
}

// settle ends the handshake; from now on writes are joined.
func (r *record) settle() (rtt time.Duration) {
	r.joined, r.hello.over, r.shook = true, true, -1
	return r.hello.rtt
}

// helloClock measures a round trip in the handshake: the least time between
// what was written and the answer to it.
type helloClock struct {
	over bool
	at   time.Time // of the write that is not answered
	rtt  time.Duration
}

func (h *helloClock) wrote() { h.at = time.Now() }

func (h *helloClock) read() {
	if h.over || h.at.IsZero() {
		return
	}
	if took := time.Since(h.at); h.rtt == 0 || took < h.rtt {
		h.rtt = took
	}
	h.at = time.Time{}
}
