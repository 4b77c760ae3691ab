package mqtt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
)

const setUnacked = 4000 // retained messages under way while they are set

// setRetained publishes n retained messages of QoS 1 and returns when all are
// acknowledged.
func setRetained(ctx context.Context, addr string, n, size int, topic func(i int) string) (err error) {
	loop, err := load.NewLoop()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, loop.Close()) }()
	s := new(setter)
	conn, err := loop.Dial(ctx, addr, load.Client{Name: "bench-set"}, s)
	if err != nil {
		return err
	}
	payload := make([]byte, size)
	for sent := 0; s.acked < n; {
		if out := conn.Buffer(); !conn.Blocked() && sent < n && sent-s.acked < setUnacked {
			for ; sent < n && sent-s.acked < setUnacked; sent++ {
				at := len(out)
				binary.BigEndian.PutUint64(payload[8:], uint64(sent))
				out = load.AppendPublish(out, topic(sent), 1, uint16(1+sent%setUnacked), payload)
				out[at] |= 1 // retain
			}
			if err := conn.Send(out); err != nil {
				return err
			}
		}
		if err := errors.Join(loop.Turn(20*time.Millisecond), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// setter counts acknowledgements, which come in order.
type setter struct{ acked int }

// Packet implements load.Handler.
func (s *setter) Packet(first byte, _ []byte) error {
	if first != load.Puback {
		return fmt.Errorf("packet 0x%02x came, want a PUBACK", first)
	}
	s.acked++
	return nil
}

// Turned implements load.Handler.
func (*setter) Turned() error { return nil }

// reader is a subscriber that reads when it is told to.
type reader struct {
	conn         net.Conn
	buf          []byte
	have         []byte // of buf
	right, wrong int
}

func newReader(ctx context.Context, addr, name string) (*reader, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	r := &reader{conn: conn, buf: make([]byte, 64<<10)}
	if err = r.exchange(load.AppendConnect(nil, "bench-"+name, 0, false), load.Connack); err != nil {
		err = errors.Join(err, conn.Close())
	}
	return r, err
}

func (r *reader) subscribe(filter string) error {
	return r.exchange(load.AppendSubscribe(nil, 1, filter, 1), load.Suback)
}

// exchange sends a packet and waits for its answer; what follows waits in have.
func (r *reader) exchange(out []byte, want byte) error {
	if _, err := r.conn.Write(out); err != nil {
		return err
	}
	for {
		first, _, n, err := load.Next(r.have)
		if err != nil || n > 0 && first != want {
			return fmt.Errorf("packet 0x%02x came, want 0x%02x: %w", first, want, err)
		}
		if n > 0 {
			r.have = r.have[n:]
			return nil
		}
		if err := r.read(); err != nil {
			return err
		}
	}
}

// read adds to have. It takes little at a time until it is told to take all, so
// that what is not read is not in this process either.
func (r *reader) read() error {
	if err := r.conn.SetReadDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	had := copy(r.buf, r.have)
	n, err := r.conn.Read(r.buf[had:])
	r.have = r.buf[:had+n]
	return err
}

// take reads and acknowledges retained messages until as many came as are
// wanted, or nothing comes any more. Others it passes over.
func (r *reader) take(ctx context.Context, want int, judge func(topic string) bool) error {
	var acks []byte
	for r.right < want && ctx.Err() == nil {
		first, body, n, err := load.Next(r.have)
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := r.conn.Write(acks); err != nil {
				return err
			}
			acks = acks[:0]
			if err := r.read(); errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			} else if err != nil {
				return err
			}
			continue
		}
		r.have = r.have[n:]
		size := int(binary.BigEndian.Uint16(body))
		if first&0xF6 == load.Publish|2 { // QoS 1
			acks = append(acks, load.Puback, 2, body[2+size], body[3+size])
		}
		if first&0xF1 != load.Publish|1 {
			continue // not retained: what others publish
		}
		if judge(string(body[2 : 2+size])) {
			r.right++
		} else {
			r.wrong++
		}
	}
	_, err := r.conn.Write(acks)
	return errors.Join(err, ctx.Err())
}
