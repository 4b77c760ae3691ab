package broker

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
)

// loops are the pollers of a broker.
type loops struct {
	run sync.WaitGroup

	mu   sync.Mutex // guards what follows
	all  []*poller
	next int
}

// start makes one poller for each processor but one, which the node itself has
// use for. With a single one, what two clients send one after the other is
// handled in that order, however busy the machine is.
func (s *loops) start(b *Broker) error {
	var all []*poller
	for range max(1, runtime.GOMAXPROCS(0)-1) {
		l, err := newPoller(b)
		if err != nil {
			for _, l := range all {
				l.close()
			}
			return err
		}
		all = append(all, l)
	}
	for _, l := range all {
		s.run.Go(l.run)
	}
	s.mu.Lock()
	s.all = all
	s.mu.Unlock()
	return nil
}

// any returns a loop for one more connection, nil when there is none.
func (s *loops) any() *poller {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return nil
	}
	s.next++
	return s.all[s.next%len(s.all)]
}

// stop returns when the last connection of every poller has ended.
func (s *loops) stop() {
	s.mu.Lock()
	for _, l := range s.all {
		l.end()
	}
	s.all = nil
	s.mu.Unlock()
	s.run.Wait()
}

// acceptPolled serves a plain socket's listener until it is closed. An error
// says that its connections cannot be polled: they need a goroutine each.
func (b *Broker) acceptPolled(ctx context.Context, l net.Listener) error {
	switch l.(type) {
	case *net.TCPListener, *net.UnixListener:
	default:
		return errors.ErrUnsupported
	}
	if b.loops.any() == nil {
		return errors.ErrUnsupported
	}
	return b.acceptRaw(ctx, l, b.loops.any)
}
