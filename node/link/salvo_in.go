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
	"github.com/farhop/farhop/node/wire"
)

// salvoIn takes the blocks of a session and reads the frames in them. run
// alone touches the engine.
type salvoIn struct {
	salvoLine
	eng       *salvo.Receiver
	direction packet.Direction
	packets   chan *[]byte
	blocks    map[uint64][]byte // not delivered yet
	held      int64             // bytes of blocks
	most      int64             // of held: more than an honest peer has under way
	reader    *bufio.Reader

	mu    sync.Mutex
	stats salvo.ReceiverStats
}

func newSalvoIn(line salvoLine, cfg salvo.Config, keys salvo.Keys) (*salvoIn, error) {
	eng, err := salvo.NewReceiver(time.Now(), cfg, keys, salvo.ReceiverState{})
	if err != nil {
		return nil, err
	}
	return &salvoIn{
		salvoLine: line, eng: eng, direction: keys.Direction, packets: make(chan *[]byte, queuedPackets),
		blocks: map[uint64][]byte{}, most: salvoFlows + cfg.MaxBlock, reader: newReader(nil),
	}, nil
}

// run drives the engine until the session ends.
func (in *salvoIn) run(free func(*[]byte)) {
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
		in.stats = in.eng.Stats()
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
		b := in.blocks[k.ID]
		if b == nil {
			if in.held += k.Length; in.held > in.most {
				return down(Protocol, "the peer began blocks of %d bytes in all and finished none, the limit is %d", in.held, in.most)
			}
			b = make([]byte, k.Length)
			in.blocks[k.ID] = b
		}
		copy(b[k.Offset:], k.Bytes)
	}
	for _, id := range eff.Withdrawn {
		in.forget(id)
	}
	for _, d := range eff.Deliver {
		b := in.blocks[d.ID]
		in.forget(d.ID)
		if err := in.frames(b); err != nil {
			return err
		}
		in.eng.Accepted(time.Now(), d.ID)
	}
	return nil
}

func (in *salvoIn) forget(id uint64) {
	in.held -= int64(len(in.blocks[id]))
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
