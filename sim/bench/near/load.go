package near

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// What a client says first, one byte. The server answers with the same byte
// once it is there, so that setting the way up counts for nothing.
const (
	sayEcho = 'e' // every trip comes back
	saySink = 's' // blocks, until one that begins with last; then bytes and CRC-32C
)

// Sizes in bytes.
const (
	trip  = 64
	block = 64 << 10
	tally = 8 + 4
)

// First byte of a block.
const (
	more = 1
	last = 0
)

// patience bounds every wait for programs of this machine.
const patience = 2 * time.Minute

// warm are round trips before the first that counts.
const warm = 500

// sample is what one measurement of a client found.
type sample struct {
	Trips   int     `json:"trips,omitempty"`
	RTT     RTT     `json:"rtt_us,omitzero"`
	Bytes   int64   `json:"bytes,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// plain returns a connection whose reads and writes are system calls that wait:
// the poller of the runtime would add its own time to every round trip. The
// connection itself is then good for closing alone.
func plain(conn *net.TCPConn) io.ReadWriteCloser {
	f, err := conn.File()
	if err != nil {
		return conn // a system without
	}
	f.Fd() // sets the descriptor to wait
	return f
}

// server echoes and swallows until ctx ends.
func server(ctx context.Context, at string) error {
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		wg.Go(func() {
			tcp := conn.(*net.TCPConn) // of a TCP listener
			stop := context.AfterFunc(ctx, func() { _, _ = tcp.CloseRead(), tcp.CloseWrite() })
			defer stop()
			c := plain(tcp)
			_ = serve(c) // the client tells what went wrong
			_, _ = c.Close(), tcp.Close()
		})
	}
}

func serve(c io.ReadWriter) error {
	b := make([]byte, block)
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return err
	}
	if _, err := c.Write(b[:1]); err != nil {
		return err
	}
	switch b[0] {
	case sayEcho:
		for {
			if _, err := io.ReadFull(c, b[:trip]); err != nil {
				return err
			}
			if _, err := c.Write(b[:trip]); err != nil {
				return err
			}
		}
	case saySink:
		sum, n := crc32.New(crc32.MakeTable(crc32.Castagnoli)), uint64(0)
		for done := false; !done; n += block {
			if _, err := io.ReadFull(c, b); err != nil {
				return err
			}
			sum.Write(b)
			done = b[0] == last
		}
		_, err := c.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, n), sum.Sum32()))
		return err
	}
	return fmt.Errorf("a client said %q", b[0])
}

// reach connects, waits until the far end is there, and tries again while it is
// not.
func reach(ctx context.Context, at string, what byte) (*net.TCPConn, io.ReadWriteCloser, error) {
	var d net.Dialer
	for end := time.Now().Add(patience); ; {
		conn, err := d.DialContext(ctx, "tcp", at)
		if err == nil {
			answer := []byte{what}
			if _, err = conn.Write(answer); err == nil {
				_ = conn.SetReadDeadline(end)
				_, err = io.ReadFull(conn, answer)
			}
			if err == nil && answer[0] == what {
				_ = conn.SetReadDeadline(time.Time{})
				tcp := conn.(*net.TCPConn) // by the network's name
				return tcp, plain(tcp), nil
			}
			err = errors.Join(err, conn.Close())
		}
		if time.Now().After(end) || !pause(ctx, 50*time.Millisecond) {
			return nil, nil, fmt.Errorf("nobody answers behind %s: %w", at, err)
		}
	}
}

// trips sends 64 bytes and waits for them, again and again.
func trips(ctx context.Context, at string, d time.Duration) (s sample, err error) {
	conn, c, err := reach(ctx, at, sayEcho)
	if err != nil {
		return s, err
	}
	defer conn.Close()
	defer c.Close()
	var b [trip]byte
	once := func(n int) error {
		binary.BigEndian.PutUint64(b[:], uint64(n))
		if _, err := c.Write(b[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return err
		}
		if got := binary.BigEndian.Uint64(b[:]); got != uint64(n) {
			return fmt.Errorf("sent %d, got %d", n, got)
		}
		return nil
	}
	for n := range warm {
		if err := once(n); err != nil {
			return s, err
		}
	}
	all := make([]time.Duration, 0, 1<<20)
	for begun := time.Now(); ; {
		before := time.Now()
		if before.Sub(begun) > d && len(all) > 0 {
			break
		}
		if err := once(len(all)); err != nil {
			return s, err
		}
		all = append(all, time.Since(before))
	}
	slices.Sort(all)
	micros := func(p float64) float64 { return float64(all[int(p*float64(len(all)-1))].Nanoseconds()) / 1000 }
	return sample{Trips: len(all), RTT: RTT{micros(0.5), micros(0.99)}}, nil
}

// bulk sends as much as it can for a while; the last byte's arrival ends it.
func bulk(ctx context.Context, at string, d time.Duration) (s sample, err error) {
	conn, c, err := reach(ctx, at, saySink)
	if err != nil {
		return s, err
	}
	defer conn.Close()
	defer c.Close()
	b := make([]byte, block)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(at))).Read(b) // never fails
	sum, n := crc32.New(crc32.MakeTable(crc32.Castagnoli)), uint64(0)
	begun := time.Now()
	for b[0] = more; b[0] != last; n += block {
		if time.Since(begun) > d {
			b[0] = last
		}
		binary.BigEndian.PutUint64(b[1:], n)
		sum.Write(b)
		if _, err := c.Write(b); err != nil {
			return s, err
		}
	}
	var end [tally]byte
	if _, err := io.ReadFull(c, end[:]); err != nil {
		return s, fmt.Errorf("after %d bytes: %w", n, err)
	}
	took := time.Since(begun)
	if came, crc := binary.BigEndian.Uint64(end[:]), binary.BigEndian.Uint32(end[8:]); came != n || crc != sum.Sum32() {
		return s, fmt.Errorf("sent %d bytes, %d came, and their CRC is %08x, not %08x", n, came, crc, sum.Sum32())
	}
	return sample{Bytes: int64(n), Seconds: took.Seconds()}, nil
}

// pause sleeps and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
