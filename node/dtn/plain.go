package dtn

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

// appendHead appends what precedes a bundle of n bytes.
func (k Kind) appendHead(dst []byte, n uint64) []byte {
	if k == MTCP {
		return cbor.AppendBytesHead(dst, int(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

// readHead reads what precedes a bundle and returns its length; 0 is a
// keepalive of the other end.
func (k Kind) readHead(br *bufio.Reader) (uint64, error) {
	first, err := br.ReadByte()
	if err != nil {
		return 0, err
	}
	if k == STCP {
		r := reader{r: br}
		a, b := r.u8(), r.u16()
		return uint64(first)<<24 | uint64(a)<<16 | uint64(b), r.err
	}
	r := reader{r: br}
	switch info := first & 0x1f; {
	case first>>5 != 2:
		return 0, fmt.Errorf("byte %#02x where a CBOR byte string begins", first)
	case info < 24:
		return uint64(info), nil
	case info == 24:
		return uint64(r.u8()), r.err
	case info == 25:
		return uint64(r.u16()), r.err
	case info == 26:
		return uint64(r.u32()), r.err
	case info == 27:
		return r.u64(), r.err
	}
	return 0, errors.New("a CBOR byte string without a length")
}

// plainOut serves an STCP or MTCP connection to a peer until it breaks.
func (d *Door) plainOut(ctx context.Context, p *peer, conn net.Conn, rtt time.Duration) error {
	o := &plain{peer: p, conn: conn, rtt: rtt, since: time.Now(), turn: make(chan struct{}, 1), waiting: make(chan struct{}, d.cfg.Limits.InFlight)}
	o.life, o.die = context.WithCancelCause(ctx)
	stop := context.AfterFunc(o.life, func() { _ = conn.Close() })
	defer stop()
	p.attach(o)
	d.cfg.Log.Info("dtn connection is up", "peer", p.cfg.Name, "kind", string(p.cfg.Kind), "remote", conn.RemoteAddr().String())
	// Nothing is to come from there: what the read tells is the end.
	_, err := io.Copy(io.Discard, conn)
	if err == nil {
		err = errors.New("the peer closed the connection")
	}
	o.die(err)
	if cause := context.Cause(o.life); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	p.detach(o, err)
	return err
}

// plain is an STCP or MTCP connection that bundles are written to.
type plain struct {
	peer    *peer
	conn    net.Conn
	rtt     time.Duration
	since   time.Time
	turn    chan struct{} // one writes at a time
	waiting chan struct{}
	life    context.Context
	die     context.CancelCauseFunc
}

// begin writes a bundle. Nothing will ever be heard of it: done is called at
// once.
func (o *plain) begin(ctx context.Context, pieces [][]byte, total uint64, done func(error)) (forget func(), err error) {
	if ctx == nil {
		return nil, ErrBusy // a write may wait
	}
	if err := o.write(ctx, pieces, total); err != nil {
		return nil, err
	}
	done(nil)
	return func() {}, nil
}

func (o *plain) write(ctx context.Context, pieces [][]byte, total uint64) error {
	if total > o.mru() {
		return &TooLargeError{Size: total, MRU: o.mru()}
	}
	for _, c := range []chan struct{}{o.waiting, o.turn} {
		select {
		case c <- struct{}{}:
			defer func() { <-c }()
		case <-o.life.Done():
			return ErrSessionLost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Half a bundle would make what follows unreadable: whoever gives up in
	// the middle ends the connection.
	stop := context.AfterFunc(ctx, func() { o.die(errors.New("a write was given up")) })
	defer stop()
	bufs := net.Buffers{o.peer.cfg.Kind.appendHead(nil, total)}
	if total <= batch {
		for _, b := range pieces {
			bufs[0] = append(bufs[0], b...)
		}
	} else {
		bufs = append(bufs, pieces...)
	}
	if _, err := bufs.WriteTo(o.conn); err != nil {
		o.die(err)
		return fmt.Errorf("%w: %w", ErrSessionLost, err)
	}
	o.peer.stats.bundlesOut.Add(1)
	o.peer.stats.bytesOut.Add(int64(total))
	return nil
}

func (o *plain) usable() bool { return o.life.Err() == nil }
func (o *plain) load() int    { return len(o.waiting) }

func (o *plain) mru() uint64 {
	if o.peer.cfg.Kind == STCP {
		return math.MaxUint32
	}
	return maxTransfer
}

func (o *plain) describe(v *PeerState) {
	v.Up, v.Since, v.Remote, v.RTT, v.TransferMRU = true, o.since, o.conn.RemoteAddr().String(), o.rtt, o.mru()
	v.InFlight += o.load()
	v.Sessions++
}

// plainIn receives bundles over STCP or MTCP until the connection ends. There
// is no way to refuse one: while the Sink has no room the connection is not
// read, and what it will never want is dropped and counted.
func (d *Door) plainIn(ctx context.Context, conn net.Conn, l Listener) error {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := &plainInlet{door: d, listener: l, remote: conn.RemoteAddr().String(), stats: &d.strangers, window: make(chan struct{}, d.cfg.Limits.InFlight)}
	if p := d.peers[l.Peer]; p != nil {
		in.stats = &p.stats
	}
	pipe := &patient{Conn: conn, limit: patience{stall: time.Minute}}
	br := bufio.NewReaderSize(pipe, readBuffer)
	defer in.wg.Wait()
	defer cancel()
	for {
		pipe.mid = false
		if _, err := br.Peek(1); err != nil {
			if err == io.EOF {
				in.finish(ctx)
				return nil
			}
			return fmt.Errorf("read: %w", err)
		}
		pipe.mid = true
		n, err := l.Kind.readHead(br)
		if err != nil {
			return fmt.Errorf("read the length of a bundle: %w", err)
		}
		if n == 0 {
			continue
		}
		if n > d.cfg.Limits.TransferMRU {
			return fmt.Errorf("a bundle of %d bytes, more than the transfer MRU of %d", n, d.cfg.Limits.TransferMRU)
		}
		if err := in.read(ctx, br, n); err != nil {
			return err
		}
	}
}

// plainInlet is one inbound STCP or MTCP connection.
type plainInlet struct {
	door     *Door
	listener Listener
	remote   string
	stats    *counters
	window   chan struct{} // bundles without a verdict
	wg       sync.WaitGroup
}

// finish waits for the verdicts of what arrived before a peaceful end.
func (in *plainInlet) finish(ctx context.Context) {
	for range cap(in.window) {
		select {
		case in.window <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// read reads a bundle of n bytes and hands it over.
func (in *plainInlet) read(ctx context.Context, br *bufio.Reader, n uint64) error {
	select {
	case in.window <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	var data []byte
	var taken int64
	total := n
	for n > 0 {
		part := min(n, batch)
		if !in.door.budget.take(int64(part), ctx.Done()) {
			in.door.budget.give(taken, false)
			in.door.stats.budgetRefusals.Add(1)
			return errors.New("no room to receive; the connection is closed")
		}
		taken += int64(part)
		at := len(data)
		data = extend(data, int(part), total)
		if _, err := io.ReadFull(br, data[at:]); err != nil {
			in.door.budget.give(taken, false)
			return fmt.Errorf("read a bundle: %w", unexpected(err))
		}
		n -= part
	}
	in.door.budget.complete(taken)
	in.stats.bundlesIn.Add(1)
	in.stats.bytesIn.Add(int64(len(data)))
	r := Received{Peer: in.listener.Peer, Kind: in.listener.Kind, Remote: in.remote, Bundle: data}
	verdict := make(chan bundle.Reason, 1)
	in.offer(r, verdict)
	in.wg.Go(func() {
		in.await(ctx, r, verdict)
		in.door.budget.give(taken, true)
		<-in.window
	})
	return nil
}

func (in *plainInlet) offer(r Received, verdict chan bundle.Reason) {
	in.door.cfg.Sink.Receive(r, func(why bundle.Reason) {
		select {
		case verdict <- why:
		default: // said twice
		}
	})
}

// await offers a bundle again for as long as the Sink has no room.
func (in *plainInlet) await(ctx context.Context, r Received, verdict chan bundle.Reason) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		var why bundle.Reason
		select {
		case why = <-verdict:
		case <-ctx.Done():
			return
		}
		switch why {
		case bundle.OK, bundle.Duplicate:
			return
		case bundle.StoreFull, bundle.QuotaExceeded, bundle.DiskFailed:
		default:
			in.stats.lost.Add(1)
			in.door.cfg.Log.Warn("dropped a bundle that cannot be refused", "kind", string(r.Kind), "remote", r.Remote, "reason", why.String(), "bytes", len(r.Bundle))
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			in.offer(r, verdict)
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
