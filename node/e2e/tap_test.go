//go:build linux

package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
)

// tap stands between two TCPCLv4 nodes without TLS (RFC 9174), passes on what
// they say, message by message, and notes the transfers. It reads the protocol
// by itself, so that it is a witness against either end.
type tap struct {
	t      *testing.T
	addr   string // where it listens
	target string // where it passes on to
	mru    uint64 // segment MRU put into the target's SESS_INIT; 0 leaves it

	mu        sync.Mutex
	sessions  int
	transfers []*transfer
	open      map[net.Conn]bool
	closed    bool
}

// transfer is a bundle that went through a tap.
type transfer struct {
	session  int
	back     bool // from the target
	data     []byte
	segments []int // sizes
	whole    bool  // the last segment went through
	acked    bool  // so did the acknowledgement of it, of the right length
	refused  int   // reason of XFER_REFUSE, -1 none
}

// payload is the bundle's; nil when it makes no sense.
func (x *transfer) payload() []byte {
	v, err := bundle.Parse(x.data)
	if err != nil {
		return nil
	}
	return v.Payload.Data
}

// newTap listens until the test ends.
func newTap(t *testing.T, target string, mru uint64) *tap {
	t.Helper()
	p := &tap{t: t, addr: freePort(t), target: target, mru: mru, open: map[net.Conn]bool{}}
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		p.closed = true
		for c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

// all returns the transfers so far. What is not whole yet may still change.
func (p *tap) all() []transfer {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]transfer, len(p.transfers))
	for i, x := range p.transfers {
		out[i] = *x
		out[i].segments = slices.Clone(x.segments)
	}
	return out
}

// serve passes one connection on. A target that is not there is a connection
// that closes at once.
func (p *tap) serve(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer far.Close()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.open[near], p.open[far] = true, true
	p.sessions++
	s := &tapped{p: p, number: p.sessions, under: [2]map[uint64]*transfer{{}, {}}}
	p.mu.Unlock()
	var wg sync.WaitGroup
	for dir, ends := range [][2]net.Conn{{near, far}, {far, near}} {
		wg.Go(func() {
			// Both ends fall together: neither can go on alone.
			defer near.Close()
			defer far.Close()
			if err := s.pass(dir, ends[0], ends[1]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.p.t.Logf("session %d through the tap: %v", s.number, err)
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	delete(p.open, near)
	delete(p.open, far)
	p.mu.Unlock()
}

// tapped is a session. Direction 0 is from who dialled.
type tapped struct {
	p      *tap
	number int
	under  [2]map[uint64]*transfer // under way, by transfer id
}

// words is one message and the cursor that reads it.
type words struct {
	r   *bufio.Reader
	raw []byte
	err error
}

func (w *words) take(n uint64) []byte {
	if n > 64<<20 {
		w.err = fmt.Errorf("a length of %d", n)
	}
	if w.err != nil {
		return make([]byte, 8)
	}
	at := len(w.raw)
	w.raw = append(w.raw, make([]byte, n)...)
	_, w.err = io.ReadFull(w.r, w.raw[at:])
	return w.raw[at:]
}

func (w *words) u8() byte    { return w.take(1)[0] }
func (w *words) u32() uint32 { return binary.BigEndian.Uint32(w.take(4)) }
func (w *words) u64() uint64 { return binary.BigEndian.Uint64(w.take(8)) }

// pass copies one direction until it ends.
func (s *tapped) pass(dir int, from io.Reader, to io.Writer) error {
	w := &words{r: bufio.NewReaderSize(from, 64<<10)}
	w.take(6) // contact header
	for w.err == nil {
		if _, w.err = to.Write(w.raw); w.err != nil {
			break
		}
		w.raw = w.raw[:0]
		s.message(w, dir)
	}
	return w.err
}

// message reads the next message and notes it.
func (s *tapped) message(w *words, dir int) {
	switch kind := w.u8(); kind {
	case 1: // XFER_SEGMENT
		flags, id := w.u8(), w.u64()
		if flags&2 != 0 { // START: extension items
			w.take(uint64(w.u32()))
		}
		if data := w.take(w.u64()); w.err == nil {
			s.segment(dir, flags, id, data)
		}
	case 2: // XFER_ACK
		flags, id, length := w.u8(), w.u64(), w.u64()
		s.note(1-dir, id, func(x *transfer) { x.acked = x.acked || flags&1 != 0 && x.whole && length == uint64(len(x.data)) })
	case 3: // XFER_REFUSE
		reason, id := w.u8(), w.u64()
		s.note(1-dir, id, func(x *transfer) { x.refused = int(reason) })
	case 4: // KEEPALIVE
	case 5, 6: // SESS_TERM, MSG_REJECT
		w.take(2)
	case 7: // SESS_INIT
		w.take(2)
		if mru := w.take(8); dir == 1 && s.p.mru > 0 {
			binary.BigEndian.PutUint64(mru, s.p.mru)
		}
		w.take(8)
		w.take(uint64(binary.BigEndian.Uint16(w.take(2))))
		w.take(uint64(w.u32()))
	default:
		if w.err == nil {
			w.err = fmt.Errorf("a message of type %d", kind)
		}
	}
}

func (s *tapped) segment(dir int, flags byte, id uint64, data []byte) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	x := s.under[dir][id]
	if flags&2 != 0 {
		x = &transfer{session: s.number, back: dir == 1, refused: -1}
		s.under[dir][id] = x
		s.p.transfers = append(s.p.transfers, x)
	}
	if x == nil {
		s.p.t.Errorf("session %d: a segment of transfer %d, which never began", s.number, id)
		return
	}
	x.data = append(x.data, data...)
	x.segments = append(x.segments, len(data))
	x.whole = flags&1 != 0
}

// note changes the transfer that an answer is about.
func (s *tapped) note(dir int, id uint64, change func(*transfer)) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if x := s.under[dir][id]; x != nil {
		change(x)
	}
}
