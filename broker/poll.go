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
	all []*poller
	run sync.WaitGroup
}

// start makes one poller for each processor.
func (s *loops) start(b *Broker) error {
	for range runtime.GOMAXPROCS(0) {
		l, err := newPoller(b)
		if err != nil {
			s.stop()
			return err
		}
		s.all = append(s.all, l)
		s.run.Go(l.run)
	}
	return nil
}

// stop returns when the last connection of every poller has ended.
func (s *loops) stop() {
	for _, l := range s.all {
		l.end()
	}
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
	if err := b.loops.start(b); err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			b.cfg.Log.Warn("sockets cannot be polled, each client costs a goroutine", "err", err)
		}
		return err
	}
	return b.acceptRaw(ctx, l, b.loops.all)
}
