package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// accept serves one listener until it is closed.
func (s *Server) accept(l *listener) {
	for {
		c, err := l.tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files: let some end
			s.cfg.Log.Warn("accept failed", "addr", l.address, "err", err)
			if !sleep(s.ctx, 100*time.Millisecond) {
				return
			}
			continue
		}
		svc := l.svc.Load()
		s.wg.Go(func() { s.ingress(svc, c) })
	}
}

// ingress carries one client's connection.
func (s *Server) ingress(svc *service, client *net.TCPConn) {
	log := s.cfg.Log.With("service", svc.Name, "client", client.RemoteAddr())
	done, ok := s.track(&svc.shared.ingress, svc.MaxConns, "ingress")
	if !ok {
		log.Warn("connection refused: the service is at its limit", "limit", svc.MaxConns)
		tcpConn{client}.Reset(0)
		return
	}
	ctx, cancel := context.WithCancel(svc.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { tcpConn{client}.Reset(0) })()
	k := newKeeper(client, s.cfg.Early, &s.early)
	fill := make(chan struct{})
	s.wg.Go(func() {
		defer close(fill)
		k.fill(&s.bufs)
		if k.failed() != nil {
			cancel() // the client is gone: nobody needs a path any more
		}
	})
	result, err := s.connect(ctx, svc, k)
	if err != nil {
		log.Debug("connection ended", "result", result, "err", err)
		tcpConn{client}.Reset(0)
	}
	_ = client.Close()
	<-fill
	k.free()
	done(result)
}

// connect tries endpoints until one takes the connection, and carries it.
func (s *Server) connect(ctx context.Context, svc *service, k *keeper) (result string, err error) {
	var tried []addr.Node
	for ctx.Err() == nil {
		paths := s.pathsNow()
		node, err := s.cfg.Mesh.Resolve(svc.Name, tried)
		if err != nil {
			var un *UnreachableError
			if !errors.As(err, &un) || !un.Store {
				return resultUnreachable, err
			}
			if !s.await(ctx, paths) {
				return resultWaiting, fmt.Errorf("%w, and %d connections wait already", err, s.cfg.Waiting)
			}
			tried = nil // what failed may be back
			continue
		}
		confirmed, err := s.try(ctx, svc, node, k)
		if confirmed {
			if err != nil {
				return resultReset, err
			}
			return resultDone, nil
		}
		s.cfg.Log.Debug("endpoint did not take the connection", "service", svc.Name, "node", node, "err", err)
		s.met.failovers.Inc()
		tried = append(tried, node)
	}
	return resultReset, context.Cause(ctx)
}

func (s *Server) pathsNow() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paths
}

// retryEvery bounds how long a waiting connection relies on PathsChanged
// alone. Resolve is local and cheap.
const retryEvery = 5 * time.Second

// await waits for another path; false: too many wait already.
func (s *Server) await(ctx context.Context, paths <-chan struct{}) bool {
	s.mu.Lock()
	if s.waiting >= s.cfg.Waiting {
		s.mu.Unlock()
		return false
	}
	s.waiting++
	s.mu.Unlock()
	s.met.waiting.Inc()
	defer func() {
		s.met.waiting.Dec()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiting--
	}()
	t := time.NewTimer(retryEvery)
	defer t.Stop()
	select {
	case <-paths:
	case <-t.C:
	case <-ctx.Done():
	}
	return true
}

// try makes one attempt at node. confirmed says that an endpoint has taken
// the connection; before that the kept bytes can go elsewhere.
func (s *Server) try(ctx context.Context, svc *service, node addr.Node, k *keeper) (confirmed bool, err error) {
	if node == s.cfg.Node {
		return s.tryLocal(ctx, svc, k)
	}
	up, err := s.openNext(ctx, wire.StreamOpen{Service: svc.Name, Dest: node, Source: s.cfg.Node, Hops: maxHops, ID: s.ids.Add(1)})
	if err != nil {
		return false, err
	}
	var (
		took atomic.Bool
		r    = bufio.NewReaderSize(up, copyBuffer/4)
	)
	answered := make(chan struct{})
	settle := sync.OnceFunc(func() { close(answered) })
	var watch sync.WaitGroup
	watch.Go(func() { s.watch(node, up, answered) })
	defer watch.Wait()
	defer settle()
	return s.carry(ctx, k, up, &took, func() error {
		if err := readReply(r); err != nil {
			return err
		}
		took.Store(true)
		settle()
		k.release()
		return s.bufs.copy(tcpConn{k.client}, r)
	})
}

// watch ends an attempt whose way breaks before the endpoint answered: the
// kept bytes can still go elsewhere, and the transport alone would wait long.
func (s *Server) watch(node addr.Node, up Conn, answered <-chan struct{}) {
	for {
		paths := s.pathsNow()
		if !s.cfg.Mesh.Reachable(node) {
			up.Reset(ResetAborted)
			return
		}
		select {
		case <-paths:
		case <-answered:
			return
		}
	}
}

// tryLocal connects to an endpoint of this node itself.
func (s *Server) tryLocal(ctx context.Context, svc *service, k *keeper) (confirmed bool, err error) {
	local, err := s.dialEndpoint(ctx, svc)
	if err != nil {
		return false, err
	}
	var took atomic.Bool
	took.Store(true)
	k.release()
	defer local.Close()
	return s.carry(ctx, k, tcpConn{local}, &took, func() error {
		return s.bufs.copy(tcpConn{k.client}, local)
	})
}

// carry runs an attempt: the client's bytes to up, what down brings back.
func (s *Server) carry(ctx context.Context, k *keeper, up Conn, took *atomic.Bool, down func() error) (confirmed bool, err error) {
	var gone atomic.Bool
	abort := func() {
		gone.Store(true)
		up.Reset(ResetAborted)
		if took.Load() {
			tcpConn{k.client}.Reset(0)
		}
		k.wake()
	}
	stop := context.AfterFunc(ctx, abort)
	defer stop()
	err = both(func() error { return k.follow(up, &s.bufs, gone.Load) }, down, abort)
	return took.Load(), err
}

// readReply reads the egress's answer.
func readReply(r *bufio.Reader) error {
	typ, body, err := wire.ReadFrame(r, maxReply, nil)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("wait for the endpoint: %w", err)
	}
	f, err := wire.Parse(typ, body)
	if err != nil {
		return fmt.Errorf("answer of the endpoint: %w", err)
	}
	reply, ok := f.(wire.StreamReply)
	switch {
	case !ok:
		return fmt.Errorf("answer of the endpoint: a %T", f)
	case !reply.OK:
		return &RefusedError{Reason: reply.Reason, Text: reply.Text}
	}
	return nil
}

// RefusedError is the answer of an egress or relay that says no.
type RefusedError struct {
	Reason bundle.Reason
	Text   string
}

// Error implements error.
func (e *RefusedError) Error() string { return fmt.Sprintf("refused (%s): %s", e.Reason, e.Text) }

// sleep waits for d and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
