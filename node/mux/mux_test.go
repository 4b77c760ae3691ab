package mux

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// configs are a server's and a client's TLS, of one certificate.
func configs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"far"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	server = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"test"}}
	return server, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "far", NextProtos: []string{"test"}}
}

// tcpPair is two ends of a connection over loopback.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// usual is the configuration of tests that say no other.
func usual() Config {
	return Config{Window: 4 << 20, Busy: 20 * time.Millisecond, Linger: 5 * time.Second, Violation: 77}
}

// pair is two ends of a multiplexer; they are closed when the test ends.
func pair(t testing.TB, client, server Config) (near, far *Conn) {
	t.Helper()
	s, c := configs(t)
	a, b := tcpPair(t)
	var wg sync.WaitGroup
	var err, ferr error
	wg.Go(func() { far, ferr = Server(t.Context(), b, s, server) })
	near, err = Client(t.Context(), a, c, client)
	wg.Wait()
	if err := errors.Join(err, ferr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.CloseWithError(0, "test is over")
		_ = far.CloseWithError(0, "test is over")
		near.Wait()
		far.Wait()
	})
	return near, far
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestEcho(t *testing.T) {
	near, far := pair(t, usual(), usual())
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range 40 {
			st, err := far.AcceptStream(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() {
				_, err := io.Copy(st, st)
				if err := errors.Join(err, st.Close()); err != nil {
					t.Error(err)
				}
			})
		}
	})
	var streams sync.WaitGroup
	for i := range 40 {
		streams.Go(func() {
			st := must(near.OpenStream(t.Context()))(t)
			st.SetPriority(int8(i%urgencies), i%2 == 0)
			data := make([]byte, i*i*1000+1)
			_, _ = rand.Read(data)
			var back sync.WaitGroup
			back.Go(func() {
				got, err := io.ReadAll(st)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("stream %d: %d bytes came back of %d, %v", i, len(got), len(data), err)
				}
			})
			if n, err := st.Write(data); n != len(data) || err != nil {
				t.Errorf("stream %d: wrote %d of %d: %v", i, n, len(data), err)
			}
			_ = st.Close()
			back.Wait()
		})
	}
	streams.Wait()
	for _, c := range []*Conn{near, far} {
		c.mu.Lock()
		if len(c.streams) != 0 || c.spare != spareWindow || c.live != [2]int{} {
			t.Errorf("%d streams, %d spare, %d live are left", len(c.streams), c.spare, c.live)
		}
		c.mu.Unlock()
	}
	if near.RTT() <= 0 || far.RTT() <= 0 {
		t.Errorf("round trips %v and %v", near.RTT(), far.RTT())
	}
}

func TestOneWay(t *testing.T) {
	near, far := pair(t, usual(), usual())
	// More than may be open at a time, so that places have to come back.
	for i := range 3 * MaxOneWay {
		out := must(far.OpenUni(t.Context()))(t)
		var data [100_000]byte
		data[i] = 1
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := out.Write(data[:])
			if err := errors.Join(err, out.Close()); err != nil {
				t.Error(err)
			}
		})
		in := must(near.AcceptUni(t.Context()))(t)
		if got := must(io.ReadAll(in))(t); sha256.Sum256(got) != sha256.Sum256(data[:]) {
			t.Errorf("stream %d: %d other bytes", i, len(got))
		}
		if _, err := in.Write([]byte{1}); err == nil {
			t.Error("wrote on the peer's one-way stream")
		}
		if _, err := out.Read(data[:]); !errors.Is(err, io.EOF) {
			t.Errorf("read from our one-way stream: %v", err)
		}
		wg.Wait()
	}
}

func TestTooManyWait(t *testing.T) {
	near, far := pair(t, usual(), usual())
	var open []*Stream
	for range MaxOneWay {
		open = append(open, must(near.OpenUni(t.Context()))(t))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := near.OpenUni(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	open[0].Reset(3) // never told: the place is free at once
	one := must(near.OpenUni(t.Context()))(t)
	_ = one.Close()
	in := must(far.AcceptUni(t.Context()))(t)
	if _, err := in.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %v", err)
	}
	must(near.OpenUni(t.Context()))(t)
}

func TestReset(t *testing.T) {
	near, far := pair(t, usual(), usual())
	st := must(near.OpenStream(t.Context()))(t)
	if _, err := st.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	in := must(far.AcceptStream(t.Context()))(t)
	in.Reset(9)
	in.Reset(10)
	var e *ResetError
	if _, err := st.Read(make([]byte, 1)); !errors.As(err, &e) || e.Code != 9 {
		t.Errorf("read: %v", err)
	}
	if _, err := st.Write(make([]byte, 1)); !errors.As(err, &e) || e.Code != 9 {
		t.Errorf("write: %v", err)
	}
	if _, err := in.Read(make([]byte, 1)); !errors.As(err, &e) {
		t.Errorf("read where it was reset: %v", err)
	}

	// What was sent to its end is there, even after the reset.
	st = must(near.OpenStream(t.Context()))(t)
	if _, err := st.Write([]byte("all")); err != nil {
		t.Fatal(err)
	}
	_ = st.Close()
	in = must(far.AcceptStream(t.Context()))(t)
	whole := func() bool {
		far.mu.Lock()
		defer far.mu.Unlock()
		return in.ended
	}
	for !whole() {
		time.Sleep(time.Millisecond)
	}
	st.Reset(1)
	wrote := func() bool { _, err := in.Write([]byte("y")); return err == nil }
	for wrote() {
		time.Sleep(time.Millisecond)
	}
	if got, err := io.ReadAll(in); string(got) != "all" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestClose(t *testing.T) {
	near, far := pair(t, usual(), usual())
	st := must(near.OpenStream(t.Context()))(t)
	if _, err := st.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	in := must(far.AcceptStream(t.Context()))(t)
	waiting := must(near.OpenStream(t.Context()))(t) // nobody knows of it yet
	unborn := make(chan error)
	go func() { unborn <- readErr(waiting) }()
	_ = far.CloseWithError(5, "enough")
	<-near.Context().Done()
	var e *CloseError
	for name, err := range map[string]error{
		"unborn": <-unborn,
		"cause":  context.Cause(near.Context()),
		"read":   readErr(st), "read there": readErr(in),
		"accept": func() error { _, err := near.AcceptUni(t.Context()); return err }(),
		"open":   func() error { _, err := near.OpenUni(t.Context()); return err }(),
	} {
		if !errors.As(err, &e) || e.Code != 5 || e.Text != "enough" || e.Remote != (name != "read there") {
			t.Errorf("%s: %v", name, err)
		}
	}
	far.Wait()
	near.Wait()
}

func readErr(s *Stream) error {
	_, err := s.Read(make([]byte, 10))
	if err == nil {
		_, err = s.Read(make([]byte, 10))
	}
	return err
}

func TestCut(t *testing.T) {
	near, far := pair(t, usual(), usual())
	_ = far.raw.Conn.Close()
	<-near.Context().Done()
	var e *CloseError
	if err := context.Cause(near.Context()); errors.As(err, &e) {
		t.Errorf("a cut is not a close: %v", err)
	}
}

func TestReadDeadline(t *testing.T) {
	near, _ := pair(t, usual(), usual())
	st := must(near.OpenStream(t.Context()))(t)
	_ = st.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := st.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	_ = st.SetReadDeadline(time.Unix(1, 0))
	if _, err := st.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
}

func TestIdle(t *testing.T) {
	c := usual()
	c.Idle = 50 * time.Millisecond
	near, far := pair(t, c, usual())
	<-near.Context().Done()
	if err := context.Cause(near.Context()); !errors.Is(err, ErrIdle) {
		t.Errorf("cause %v", err)
	}
	<-far.Context().Done()
}

func TestKeepAlive(t *testing.T) {
	alive, idle := usual(), usual()
	alive.KeepAlive = time.Millisecond
	idle.Idle = time.Minute
	near, _ := pair(t, alive, idle)
	for near.Stats().RTT == 0 || pings(near) < 3 {
		time.Sleep(time.Millisecond)
	}
}

func causeOf(c *Conn) error {
	<-c.Context().Done()
	return context.Cause(c.Context())
}

func pings(c *Conn) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rtt.pings
}

func busy(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writing || c.pending()
}

// TestSilent: without data and keepalive nothing is sent.
func TestSilent(t *testing.T) {
	near, far := pair(t, usual(), usual())
	st := must(near.OpenStream(t.Context()))(t)
	if _, err := st.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	in := must(far.AcceptStream(t.Context()))(t)
	if _, err := in.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	for pings(near) == 0 {
		time.Sleep(time.Millisecond)
	}
	for _, c := range []*Conn{near, far} {
		for busy(c) {
			time.Sleep(time.Millisecond)
		}
	}
	sent := func() uint64 { return near.Stats().BytesSent + far.Stats().BytesSent }
	before := sent()
	time.Sleep(30 * time.Millisecond)
	if after := sent(); after != before {
		t.Errorf("%d bytes were sent with nothing to say", after-before)
	}
}

// TestUrgent: what is urgent passes what waits, and a stalled reader holds up
// nobody.
func TestUrgent(t *testing.T) {
	near, far := pair(t, usual(), usual())
	bulk := must(near.OpenUni(t.Context()))(t)
	bulk.SetPriority(7, false)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, err := bulk.Write(make([]byte, 64<<20)) // far more than the windows
		if _, ok := errors.AsType[*ResetError](err); !ok {
			t.Errorf("bulk: %v", err)
		}
	})
	stalled := must(far.AcceptUni(t.Context()))(t)
	ctrl := must(near.OpenStream(t.Context()))(t)
	ctrl.SetPriority(0, false)
	var in *Stream
	for i := range 100 {
		if _, err := ctrl.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if in == nil {
			in = must(far.AcceptStream(t.Context()))(t)
		}
		var b [1]byte
		if _, err := in.Read(b[:]); err != nil || b[0] != byte(i) {
			t.Fatalf("read %d, %v", b, err)
		}
	}
	far.mu.Lock()
	held := 0
	for _, s := range stalled.segs {
		held += len(s.buf)
	}
	far.mu.Unlock()
	if held > firstWindowOneWay*4/3+recordLen {
		t.Errorf("a stalled reader costs %d bytes", held)
	}
	bulk.Reset(1)
}

func TestGrow(t *testing.T) {
	near, far := pair(t, usual(), usual())
	out := must(near.OpenStream(t.Context()))(t)
	const total = 16 << 20
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, err := out.Write(make([]byte, total))
		if err := errors.Join(err, out.Close()); err != nil {
			t.Error(err)
		}
	})
	in := must(far.AcceptStream(t.Context()))(t)
	n, err := io.Copy(io.Discard, in)
	if n != total || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	far.mu.Lock()
	defer far.mu.Unlock()
	if in.window <= usualWindow {
		t.Errorf("the window stayed at %d", in.window)
	}
}
