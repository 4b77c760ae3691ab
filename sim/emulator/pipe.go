package emulator

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ending says how a direction of a connection ends.
type ending uint8

const (
	goesOn ending = iota // plain bytes
	fin                  // orderly: the other direction lives on
	rst                  // both directions are over
)

// segment is what travels through a pipe: bytes, or an ending.
type segment struct {
	data   []byte
	end    ending
	arrive time.Time
}

// overhead is what a segment is charged beyond its bytes, so that a trickle of
// single bytes is bounded too.
const overhead = 64

// pipe is one direction of one connection. Its sender reads src and books the
// road, its receiver writes to dst at the time of arrival.
type pipe struct {
	road     *road
	src, dst *net.TCPConn
	kick     chan struct{} // capacity 1: a segment was added
	room     chan struct{} // capacity 1: a segment was taken
	broken   chan struct{} // closed when src turned out to be dead
	onBroken sync.Once

	mu   sync.Mutex // guards below
	line []segment  // in order of arrival
	held int        // bytes in line
	last time.Time  // latest arrival in line: bytes never overtake
}

func newPipe(r *road, src, dst *net.TCPConn) *pipe {
	return &pipe{
		road: r, src: src, dst: dst,
		kick: make(chan struct{}, 1), room: make(chan struct{}, 1), broken: make(chan struct{}),
	}
}

// join carries bytes between client and server until both directions have
// ended, one is reset, or ctx ends. cancel ends ctx, which closes the sockets.
func join(ctx context.Context, cancel context.CancelFunc, t *tcpSide, client, server *net.TCPConn) {
	forth := newPipe(t.up, client, server)
	back := newPipe(t.down, server, client)
	var wg sync.WaitGroup
	var ended atomic.Int32
	receive := func(p, reverse *pipe) {
		onFin := func() {
			if ended.Add(1) == 2 {
				cancel() // both FINs delivered
			}
		}
		if p.receive(ctx, reverse, onFin) == rst {
			reset(client)
			reset(server)
			cancel()
		}
	}
	wg.Go(func() { receive(forth, back) })
	wg.Go(func() { receive(back, forth) })
	wg.Go(func() { back.send(ctx) })
	wg.Go(func() {
		// The client's stack says "connected" at once; its first byte must still
		// wait for the SYN-ACK.
		if t.down.pass(ctx) == nil {
			forth.send(ctx)
		}
	})
	wg.Wait()
}

// send reads src until it ends and puts what it reads on the road.
func (p *pipe) send(ctx context.Context) {
	buf := make([]byte, maxChunk)
	for {
		if p.waitRoom(ctx) != nil {
			return
		}
		n, err := p.src.Read(buf[:p.road.chunk()])
		if n > 0 && p.put(ctx, append([]byte(nil), buf[:n]...), goesOn) != nil {
			return
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			if p.put(ctx, nil, fin) != nil {
				return
			}
			// The source may still turn out to be dead rather than silent.
			select {
			case <-p.broken:
			case <-ctx.Done():
				return
			}
		}
		_ = p.put(ctx, nil, rst) // fails only when the connection is over anyway
		return
	}
}

// put waits for the road and adds a segment to the line.
func (p *pipe) put(ctx context.Context, data []byte, end ending) error {
	arrive, err := p.road.send(ctx, len(data))
	if err != nil {
		return err
	}
	p.mu.Lock()
	if arrive.Before(p.last) {
		arrive = p.last
	}
	p.last = arrive
	p.line = append(p.line, segment{data: data, end: end, arrive: arrive})
	p.held += len(data) + overhead
	p.mu.Unlock()
	notify(p.kick)
	return nil
}

// waitRoom blocks while the window is full.
func (p *pipe) waitRoom(ctx context.Context) error {
	for {
		p.mu.Lock()
		full := p.held >= p.road.window
		p.mu.Unlock()
		if !full {
			return ctx.Err()
		}
		select {
		case <-p.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take returns the next segment, waiting for one.
func (p *pipe) take(ctx context.Context) (segment, error) {
	for {
		p.mu.Lock()
		if len(p.line) > 0 {
			s := p.line[0]
			p.line[0] = segment{}
			p.line = p.line[1:]
			p.mu.Unlock()
			return s, nil
		}
		p.mu.Unlock()
		select {
		case <-p.kick:
		case <-ctx.Done():
			return segment{}, ctx.Err()
		}
	}
}

// receive writes segments to dst as they arrive and reports how it ended: rst
// when the source was reset, else goesOn. It calls onFin after a FIN was
// delivered and then waits on, for a reset may follow. When dst is dead it
// tells reverse, whose source dst is, to carry that news back.
func (p *pipe) receive(ctx context.Context, reverse *pipe, onFin func()) ending {
	for {
		s, err := p.take(ctx)
		if err != nil || p.road.arrive(ctx, s.arrive) != nil {
			return goesOn
		}
		switch s.end {
		case rst:
			return rst
		case fin:
			err = p.dst.CloseWrite()
			if err == nil {
				onFin()
			}
		default:
			var n int
			n, err = p.dst.Write(s.data)
			p.road.carried.Add(uint64(n))
		}
		p.mu.Lock()
		p.held -= len(s.data) + overhead
		p.mu.Unlock()
		notify(p.room)
		if err != nil {
			reverse.fail()
			return goesOn
		}
	}
}

// fail marks src as dead and ends a blocked read of it.
func (p *pipe) fail() {
	p.onBroken.Do(func() { close(p.broken) })
	_ = p.src.SetReadDeadline(time.Unix(1, 0))
}

// notify wakes the one goroutine that waits on ch, now or at its next wait.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
