package link

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/farhop/farhop/node/salvo"
	"github.com/farhop/farhop/node/salvo/packet"
	"github.com/farhop/farhop/node/spool"
	"github.com/farhop/farhop/node/wire"
)

// salvoIn takes the blocks of a session and reads the frames in them. run
// alone touches the engine.
type salvoIn struct {
	salvoLine
	eng       *salvo.Receiver
	direction packet.Direction
	packets   chan *[]byte
	blocks    map[uint64]*inBlock // not delivered yet
	held      int64               // bytes of those in memory
	peak      int64
	rest      *spool.File // for what has no room there
	buf       []byte      // for a block that comes back from there
	reader    *bufio.Reader

	mu    sync.Mutex
	stats salvo.ReceiverStats
	kept  keptIn
}

// inBlock is what is here of a block.
type inBlock struct {
	data []byte // nil: it is spooled
	span spool.Span
	n    int
}

// keptIn is how much waited for what was before it, in bytes.
type keptIn struct{ memory, memoryPeak, disk, diskPeak int64 }

func newSalvoIn(line salvoLine, cfg salvo.Config, keys salvo.Keys) (*salvoIn, error) {
	eng, err := salvo.NewReceiver(time.Now(), cfg, keys, salvo.ReceiverState{})
	if err != nil {
		return nil, err
	}
	return &salvoIn{
		salvoLine: line, eng: eng, direction: keys.Direction, packets: make(chan *[]byte, queuedPackets),
		blocks: map[uint64]*inBlock{}, rest: spool.New(line.s.cfg.SpoolDir, salvoFlows), reader: newReader(nil),
	}, nil
}

// run drives the engine until the session ends.
func (in *salvoIn) run(free func(*[]byte)) {
	defer func() { _ = in.rest.Close() }() // nothing in it is needed any more
	t := time.NewTimer(0)
	defer t.Stop()
	buf := make([]byte, packetBytes)
	for {
		now := time.Now()
		if owlt, ok := in.measured(); ok {
			in.eng.SetOWLT(owlt)
		}
		for p := in.eng.Next(now, buf); p != nil; p = in.eng.Next(now, buf) {
			in.send(p)
		}
		in.mu.Lock()
		in.stats, in.kept = in.eng.Stats(), keptIn{in.held, in.peak, in.rest.Used(), in.rest.Peak()}
		in.mu.Unlock()
		if next := in.eng.Wake(); !next.IsZero() {
			t.Reset(time.Until(next))
		}
		select {
		case <-t.C:
		case p := <-in.packets:
			if err := in.hear(p, free); err != nil {
				in.s.end(downOf(err))
				return
			}
		case <-in.done:
			return
		}
	}
}

// reportEvery bounds how many packets are taken before a report may go.
const reportEvery = 64

// hear takes the packets that wait, some of them.
func (in *salvoIn) hear(p *[]byte, free func(*[]byte)) error {
	for n := 1; ; n++ {
		_ = in.eng.Receive(time.Now(), *p) // a packet.Drop, which the engine counts
		err := in.take()
		free(p)
		if err != nil || n == reportEvery {
			return err
		}
		select {
		case p = <-in.packets:
		default:
			return nil
		}
	}
}

// take keeps bytes and delivers whole blocks.
func (in *salvoIn) take() error {
	eff := in.eng.Take()
	for _, k := range eff.Keep {
		if err := in.keep(k); err != nil {
			return err
		}
	}
	for _, id := range eff.Withdrawn {
		in.forget(id)
	}
	for _, d := range eff.Deliver {
		b, err := in.bytes(in.blocks[d.ID])
		if err != nil {
			return err
		}
		if err := in.frames(b); err != nil {
			return err
		}
		in.forget(d.ID)
		in.eng.Accepted(time.Now(), d.ID)
	}
	return nil
}

// keep takes bytes of a block: into memory as long as there is room, else to
// disk, where a far link has as much under way as it carries in a round trip.
func (in *salvoIn) keep(k salvo.Keep) (err error) {
	b := in.blocks[k.ID]
	if b == nil {
		b = &inBlock{n: int(k.Length)}
		if in.held+k.Length <= salvoMemory {
			b.data = make([]byte, k.Length)
			in.held += k.Length
			in.peak = max(in.peak, in.held)
		} else if b.span, err = in.spool(b.n); err != nil {
			return err
		}
		in.blocks[k.ID] = b
	}
	if b.data != nil {
		copy(b.data[k.Offset:], k.Bytes)
		return nil
	}
	if err := in.rest.Write(b.span, int(k.Offset), k.Bytes); err != nil {
		return down(Overflow, "%d bytes in %d blocks wait for what was before them: %w", in.held+in.rest.Used(), len(in.blocks), err)
	}
	return nil
}

func (in *salvoIn) spool(n int) (spool.Span, error) {
	if in.s.cfg.SpoolDir == "" {
		return spool.Span{}, down(Overflow, "%d bytes wait for what was before them, the limit is %d, and there is no directory to spool the rest in", in.held, salvoMemory)
	}
	span, err := in.rest.Take(n)
	if err != nil {
		return span, down(Overflow, "%d bytes in %d blocks wait for what was before them: %w", in.held+in.rest.Used(), len(in.blocks), err)
	}
	return span, nil
}

// bytes returns all of a block, until the next call.
func (in *salvoIn) bytes(b *inBlock) ([]byte, error) {
	if b.data != nil {
		return b.data, nil
	}
	if cap(in.buf) < b.n {
		in.buf = make([]byte, b.n)
	}
	if err := in.rest.Read(b.span, in.buf[:b.n]); err != nil {
		return nil, down(Failed, "%w", err)
	}
	return in.buf[:b.n], nil
}

func (in *salvoIn) forget(id uint64) {
	b := in.blocks[id]
	switch {
	case b == nil:
	case b.data != nil:
		in.held -= int64(b.n)
	default:
		in.rest.Free(b.span)
	}
	delete(in.blocks, id)
}

// frames gives the frames of one block to the session's sink.
func (in *salvoIn) frames(b []byte) error {
	in.reader.Reset(bytes.NewReader(b))
	err := readLoop(in.reader, int(in.s.cfg.Hello.MaxFrame), func(batch []wire.Frame) { in.s.deliver(batch) })
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
