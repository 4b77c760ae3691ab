package bench

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// served measures the floor behind sockets, in this process: it shares the
// processors with its clients as a broker does.
func served(ctx context.Context, f *os.File, c Config, out *Floor) (perSecond float64, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	s := &sink{j: newJournal(f)}
	var wg sync.WaitGroup
	wg.Go(func() { s.accept(ln) })
	wg.Go(func() { s.fail(s.j.run(s.acknowledge)) })
	defer wg.Wait()
	defer s.j.end()
	defer ln.Close()
	l, err := connectLoad(ctx, c, ln.Addr().String())
	if err != nil {
		return 0, err
	}
	defer l.close()
	before := proc.OwnCPU()
	if err := l.run(ctx, c.Limit, 0, nil); err != nil {
		return 0, errors.Join(err, s.err())
	}
	n := float64(l.acked.Load())
	spans := l.spans()
	out.ServedP50, out.ServedP99 = float64(percentile(spans, 0.5)), float64(percentile(spans, 0.99))
	out.ServedClient = perMessage(proc.OwnCPU()-before, n)
	return n / l.wall.Seconds(), nil
}

// sink is the least server that may acknowledge a QoS 1 publish.
type sink struct {
	j     *journal
	conns []net.Conn // guarded by j.mu; by producer
	broke error      // guarded by j.mu
	acks  [][]byte   // of acknowledge alone, by producer
}

func (s *sink) accept(ln net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return // the run is over
		}
		s.j.mu.Lock()
		number := len(s.conns)
		s.conns = append(s.conns, conn)
		s.j.mu.Unlock()
		wg.Go(func() {
			defer conn.Close()
			if err := s.serve(conn, number); !endOfStream(err) {
				s.fail(err)
			}
		})
	}
}

// serve takes the packets of one client.
func (s *sink) serve(conn net.Conn, number int) error {
	in := newPackets(conn)
	var b []byte
	for {
		p, err := in.next()
		if err != nil {
			return err
		}
		if p.first == firstConnect {
			if _, err := conn.Write([]byte{firstConnack, 2, 0, 0}); err != nil {
				return err
			}
			continue
		}
		m, err := p.publish()
		if err != nil {
			return err
		}
		b = append(appendHead(b[:0], p.first, len(p.body)), p.body...)
		s.j.mu.Lock()
		s.j.add(b, entry{number, m.id})
		s.j.mu.Unlock()
	}
}

// acknowledge answers a group that is on disk.
func (s *sink) acknowledge(group []entry) error {
	s.j.mu.Lock()
	conns := s.conns
	s.j.mu.Unlock()
	for len(s.acks) < len(conns) {
		s.acks = append(s.acks, nil)
	}
	for _, e := range group {
		s.acks[e.producer] = appendPuback(s.acks[e.producer], e.id)
	}
	for i, b := range s.acks {
		if len(b) == 0 {
			continue
		}
		_ = conns[i].SetWriteDeadline(time.Now().Add(patience))
		if _, err := conns[i].Write(b); err != nil {
			return err
		}
		s.acks[i] = b[:0]
	}
	return nil
}

// fail notes the first error and ends all connections.
func (s *sink) fail(err error) {
	if err == nil {
		return
	}
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	if s.broke == nil {
		s.broke = err
	}
	for _, c := range s.conns {
		_ = c.Close()
	}
}

func (s *sink) err() error {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	return s.broke
}
