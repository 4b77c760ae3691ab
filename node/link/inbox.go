package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/farhop/farhop/node/wire"
)

const (
	readBuffer  = 16 << 10 // bytes per stream
	batchFrames = 256      // of one Sink call
	maxEnvelope = binary.MaxVarintLen64
)

var errClosed = errors.New("session closed")

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, readBuffer) }

// readLoop parses frames from r and gives them to sink in batches: it blocks
// for the first frame only and adds what is already buffered. It returns the
// reader's error, or a Protocol Down for what cannot be parsed.
func readLoop(r *bufio.Reader, maxFrame int, sink func([]wire.Frame)) error {
	batch := make([]wire.Frame, 0, batchFrames)
	for {
		var err error
		batch, err = readBatch(r, maxFrame, batch[:0])
		if len(batch) > 0 {
			sink(batch)
			clear(batch)
		}
		if err != nil {
			return err
		}
	}
}

func readBatch(r *bufio.Reader, maxFrame int, batch []wire.Frame) ([]wire.Frame, error) {
	for first := true; len(batch) < batchFrames && (first || buffered(r)); first = false {
		f, err := readFrame(r, maxFrame)
		if err != nil {
			return batch, err
		}
		if f != nil {
			batch = append(batch, f)
		}
	}
	return batch, nil
}

// readFrame returns nil without error for a type this version does not know.
func readFrame(r *bufio.Reader, maxFrame int) (wire.Frame, error) {
	// Every body is its own allocation: a Transfer's bundle is kept by the
	// core until it is durable and sent on, and must hold nothing else alive.
	typ, body, err := wire.ReadFrame(r, maxFrame, nil)
	if err != nil {
		if errors.Is(err, wire.ErrTooLarge) {
			return nil, down(Protocol, "%w", err)
		}
		return nil, err
	}
	f, err := wire.Parse(typ, body)
	switch {
	case errors.Is(err, wire.ErrUnknownType):
		return nil, nil
	case err != nil:
		return nil, down(Protocol, "frame type %d of %d bytes: %w", typ, len(body), err)
	}
	return f, nil
}

// buffered reports whether a whole frame can be read without blocking.
func buffered(r *bufio.Reader) bool {
	head, _ := r.Peek(min(r.Buffered(), binary.MaxVarintLen64))
	length, n := binary.Uvarint(head)
	return n > 0 && length <= uint64(r.Buffered()-n)
}

// readHello reads the first frame of a control stream.
func readHello(r *bufio.Reader) (wire.Hello, error) {
	f, err := readFrame(r, maxHello)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return wire.Hello{}, fmt.Errorf("read hello: %w", err)
	}
	h, ok := f.(wire.Hello)
	if !ok {
		return h, down(Protocol, "the first frame is a %T, not a hello", f)
	}
	return h, nil
}
