package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// keeper holds a client's first bytes so that they can be sent again, to
// another endpoint. fill reads them; each attempt sends them with follow.
// Once released, follow goes on with the client itself.
type keeper struct {
	client *net.TCPConn
	limit  int
	budget *budget

	mu       sync.Mutex
	moved    sync.Cond // any field below changed
	buf      []byte
	reserved int   // bytes taken from budget
	end      error // what the client's reading ended with; io.EOF: half-close
	released bool  // confirmed: fill stops, nothing is kept any more
	stopped  bool  // fill has returned
}

// budget bounds the kept bytes of all connections together.
type budget struct {
	mu   sync.Mutex
	left int
}

func (b *budget) take(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.left)
	b.left -= n
	return n
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}

func newKeeper(client *net.TCPConn, limit int, b *budget) *keeper {
	k := &keeper{client: client, limit: limit, budget: b}
	k.moved.L = &k.mu
	return k
}

// fill reads from the client until the limit, its end, or release. What the
// limit holds back stays in the kernel: the client feels back-pressure.
func (k *keeper) fill(b *buffers) {
	p := b.get()
	defer b.put(p)
	for {
		room := k.room()
		if room == 0 {
			break
		}
		n, err := k.client.Read((*p)[:min(room, len(*p))])
		if !k.note((*p)[:n], err) {
			break
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	k.moved.Broadcast()
}

// room returns how much more may be kept; it waits for budget, not for room.
func (k *keeper) room() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.released || k.end != nil {
		return 0
	}
	have := min(firstEarly, k.limit) + k.reserved
	if len(k.buf) == have && have < k.limit {
		got := k.budget.take(min(have, k.limit-have)) // doubles
		k.reserved += got
		have += got
	}
	return have - len(k.buf)
}

func (k *keeper) note(p []byte, err error) (more bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.buf = append(k.buf, p...)
	switch {
	case err == nil:
	case k.released && errors.Is(err, os.ErrDeadlineExceeded):
		// release woke us.
	default:
		k.end = err
	}
	k.moved.Broadcast()
	return err == nil && !k.released
}

// release ends the keeping: follow sends what is left and then the client's
// further bytes as they come.
func (k *keeper) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.released = true
	if !k.stopped {
		_ = k.client.SetReadDeadline(time.Unix(1, 0)) // wakes fill
	}
	k.moved.Broadcast()
}

// free gives the kept bytes back to the budget.
func (k *keeper) free() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.budget.give(k.reserved)
	k.reserved, k.buf = 0, nil
}

// failed returns the error that ended the client's side, nil for none or EOF.
func (k *keeper) failed() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if errors.Is(k.end, io.EOF) {
		return nil
	}
	return k.end
}

// next waits for bytes after pos. done says that none come any more from
// here; end is then io.EOF, another error of the client, or nil when the
// attempt was confirmed and the client is to be read directly.
func (k *keeper) next(pos int, gone func() bool) (p []byte, done bool, end error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		switch {
		case gone():
			return nil, true, errAbandoned
		case pos < len(k.buf):
			return k.buf[pos:len(k.buf):len(k.buf)], false, nil
		case k.end != nil:
			return nil, true, k.end
		case k.released && k.stopped:
			return nil, true, nil
		}
		k.moved.Wait()
	}
}

// wake makes followers look at gone again.
func (k *keeper) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.moved.Broadcast()
}

var errAbandoned = errors.New("attempt abandoned")

// follow sends the kept bytes from the first on and, once released, the
// client's further bytes. It returns nil after it has passed the client's
// half-close on, errAbandoned when gone says so.
func (k *keeper) follow(up Conn, b *buffers, gone func() bool) error {
	for pos := 0; ; {
		p, done, end := k.next(pos, gone)
		switch {
		case errors.Is(end, io.EOF):
			return up.CloseWrite()
		case end != nil:
			return end
		case done:
			k.free()
			if err := k.client.SetReadDeadline(time.Time{}); err != nil {
				return err
			}
			err := b.copy(up, k.client)
			return err
		}
		n, err := up.Write(p)
		if err != nil {
			return err
		}
		pos += n
	}
}
