package mux

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// decodeAll gives all that a decoder makes of b, pieces joined.
func decodeAll(src io.Reader) (out []string, err error) {
	d := newDecoder(src)
	var data []byte
	for {
		f, err := d.next()
		if err != nil {
			return out, err
		}
		data = append(data, f.data...)
		if f.last {
			out = append(out, fmt.Sprintf("%d %d %d %x", f.typ, f.a, f.b, data))
			data = nil
		}
	}
}

func TestDecoder(t *testing.T) {
	long := make([]byte, chunkLen)
	whole := append(appendFrame(nil, frameData, 4, uint64(len(long))), long...)
	whole = appendFrame(whole, framePing, 1<<63, 0)
	whole = append(appendFrame(whole, frameEnd, 8, 2), "hi"...)
	whole = appendFrame(whole, frameEnd, 9, 0)
	for name, src := range map[string]io.Reader{
		"at once": bytes.NewReader(whole), "bytes": iotest.OneByteReader(bytes.NewReader(whole)), "halves": iotest.HalfReader(bytes.NewReader(whole)),
	} {
		got, err := decodeAll(src)
		want := []string{fmt.Sprintf("1 4 %d %x", len(long), long), fmt.Sprintf("6 %d 0 ", uint64(1<<63)), "2 8 2 6869", "2 9 0 "}
		if !errors.Is(err, io.EOF) || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %d frames, %v", name, len(got), err)
		}
	}
	if _, err := decodeAll(bytes.NewReader(whole[:100])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
}

// bad are streams of frames that a server must not take from a client.
func bad() map[string][]byte {
	data := func(id uint64, n int) []byte {
		return append(appendFrame(nil, frameData, id, uint64(n)), make([]byte, n)...)
	}
	var many []byte
	for i := range uint64(MaxOneWay + 1) {
		many = append(many, data(i<<2|2, 1)...)
	}
	return map[string][]byte{
		"unknown type":             {99, 0, 0},
		"a number too long":        append([]byte{frameData}, bytes.Repeat([]byte{0xff}, 12)...),
		"a chunk too long":         appendFrame(nil, frameData, 0, chunkLen+1),
		"a text too long":          appendFrame(nil, frameClose, 0, maxText+1),
		"a stream of ours":         data(1, 1),
		"out of order":             data(4, 1),
		"a reset opens":            appendFrame(nil, frameReset, 0, 1),
		"more than the window":     bytes.Repeat(data(2, chunkLen), firstWindowOneWay/chunkLen+1),
		"more streams than may be": many,
		"bytes after the end":      append(appendFrame(nil, frameEnd, 0, 0), data(0, 1)...),
		"too much credit":          appendFrame(nil, frameCredit, 0, maxCredit+1),
		"places that were free":    appendFrame(nil, frameFreed, 0, 1),
		"no such kind":             appendFrame(nil, frameFreed, 2, 1),
	}
}

func TestBadPeer(t *testing.T) {
	for name, b := range bad() {
		t.Run(name, func(t *testing.T) {
			near, far := pair(t, usual(), usual())
			near.mu.Lock()
			near.writing = true // the test is the writer now
			near.mu.Unlock()
			if _, err := near.tls.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := near.raw.flush(); err != nil {
				t.Fatal(err)
			}
			<-near.Context().Done()
			var e *CloseError
			if err := causeOf(near); !errors.As(err, &e) || e.Code != 77 || !e.Remote {
				t.Errorf("the peer heard %v", err)
			}
			if err := causeOf(far); !errors.Is(err, ErrProtocol) {
				t.Errorf("cause %v", err)
			}
			near.mu.Lock()
			near.writing = false
			near.wake.Broadcast()
			near.mu.Unlock()
		})
	}
}

// FuzzDecoder: however the bytes are cut, the frames are the same; no input
// does harm to a connection that takes them.
func FuzzDecoder(f *testing.F) {
	for _, b := range bad() {
		f.Add(b)
	}
	f.Add(append(appendFrame(nil, frameClose, 4, 3), "bye"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, err := decodeAll(bytes.NewReader(b))
		single, errs := decodeAll(iotest.OneByteReader(bytes.NewReader(b)))
		if strings.Join(whole, "|") != strings.Join(single, "|") || fmt.Sprint(err) != fmt.Sprint(errs) {
			t.Errorf("%v, %v at once; %v, %v byte by byte", whole, err, single, errs)
		}
		c := bare()
		d := newDecoder(bytes.NewReader(b))
		c.mu.Lock()
		defer c.mu.Unlock()
		for {
			fr, err := d.next()
			if err != nil {
				break
			}
			if err := c.handle(fr, d); err != nil || c.err != nil {
				break
			}
		}
		held := 0
		for _, s := range c.streams {
			for _, seg := range s.segs {
				held += len(seg.buf)
			}
		}
		if held > 32<<20 || c.spare < 0 || len(c.streams) > MaxStreams+MaxOneWay {
			t.Errorf("%d bytes held, %d spare, %d streams", held, c.spare, len(c.streams))
		}
	})
}

// bare is a connection without goroutines, which takes frames.
func bare() *Conn {
	near, far := net.Pipe()
	_ = far.Close()
	c := newConn(newRecord(near), nil, true, usual())
	c.rtt.heard = time.Now()
	return c
}

// TestKeep: whole records keep their buffers also behind a short one, and what a
// stream holds is at most a third larger than what came, and one buffer.
func TestKeep(t *testing.T) {
	c := bare()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.newStream(oneWay, false)
	var want []byte
	for i := range 200 {
		n := chunkLen
		if i%3 == 0 {
			n = 1 + i*67%full
		}
		b := append(appendFrame(nil, frameData, 0, uint64(n)), bytes.Repeat([]byte{byte(i)}, n)...)
		want = append(want, b[len(b)-n:]...)
		d := newDecoder(bytes.NewReader(b))
		f, err := d.next()
		if err != nil || len(f.data) != n {
			t.Fatalf("%d bytes, %v; want %d", len(f.data), err, n)
		}
		s.keep(f.data, d)
		if s.held != len(want) || len(s.segs)*recordLen > s.held*4/3+recordLen {
			t.Fatalf("%d bytes of %d noted, in %d buffers", s.held, len(want), len(s.segs))
		}
	}
	got := make([]byte, len(want)+1)
	if n := s.take(got); !bytes.Equal(got[:n], want) || s.held != 0 || len(s.segs) != 0 {
		t.Errorf("%d bytes came back, want %d; %d noted in %d buffers", n, len(want), s.held, len(s.segs))
	}
}
