package near

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// bareConfig is what quic-go does by itself; while others are measured the pair
// waits for longer than its idle timeout.
func bareConfig() *quic.Config { return &quic.Config{KeepAlivePeriod: 10 * time.Second} }

const copyBuffer = 64 << 10 // bytes, as our nodes have

// enter takes TCP connections and carries each as a stream of one connection of
// stock quic-go, until ctx or that connection ends.
func enter(ctx context.Context, at, to, dir string) error {
	conf, err := tlsConfig(dir, enterName)
	if err != nil {
		return err
	}
	conn, err := quic.DialAddr(ctx, to, conf, bareConfig())
	if err != nil {
		return err
	}
	defer conn.CloseWithError(0, "")
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.CloseWithError(0, "") // before the wait: it ends all streams
	for {
		client, err := ln.Accept()
		if err != nil {
			return ending(ctx, err)
		}
		st, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return errors.Join(ending(ctx, err), client.Close())
		}
		wg.Go(func() { join(client.(*net.TCPConn), st) }) // of a TCP listener
	}
}

// leave takes one connection and gives each stream of it a TCP connection.
func leave(ctx context.Context, at, to, dir string) error {
	conf, err := tlsConfig(dir, leaveName)
	if err != nil {
		return err
	}
	ln, err := quic.ListenAddr(at, conf, bareConfig())
	if err != nil {
		return err
	}
	defer ln.Close()
	conn, err := ln.Accept(ctx)
	if err != nil {
		return ending(ctx, err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.CloseWithError(0, "")
	for {
		st, err := conn.AcceptStream(ctx)
		if err != nil {
			return ending(ctx, err)
		}
		wg.Go(func() {
			var d net.Dialer
			local, err := d.DialContext(ctx, "tcp", to)
			if err != nil {
				st.CancelRead(1)
				st.CancelWrite(1)
				return
			}
			join(local.(*net.TCPConn), st) // by the network's name
		})
	}
}

// ending: that a run is over is no error.
func ending(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// join carries both directions until both have ended.
func join(c *net.TCPConn, st *quic.Stream) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if copied(st, c) != nil {
			st.CancelWrite(1)
		}
		_ = st.Close()
	})
	if copied(c, st) != nil {
		st.CancelRead(1)
		_ = c.SetLinger(0)
	}
	_ = c.CloseWrite()
	wg.Wait()
	_ = c.Close()
}

// copied hides what would bring smaller buffers.
func copied(dst io.Writer, src io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, copyBuffer))
	return err
}
