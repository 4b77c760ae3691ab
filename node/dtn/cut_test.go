package dtn

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// passive plays the accepting end of a session by hand, up to the first
// segment of the door that dialled.
func passive(t testing.TB, ln net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	br := bufio.NewReaderSize(c, readBuffer)
	if _, err := io.CopyN(io.Discard, br, contactLen); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(encodeContact(false))
	if m, err := readMessage(br); err != nil || m.kind != msgInit {
		t.Fatalf("SESS_INIT: %+v %v", m, err)
	}
	_, _ = c.Write(encodeInit(hello))
	return c, br
}

// TestCutMidTransfer breaks a session in the middle of a large transfer, after
// segments of it and a whole one before it were acknowledged.
func TestCutMidTransfer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := newSink()
	d, _ := start(t, Config{
		Node: eid(t, "dtn://a/"), Sink: s, Drain: time.Second,
		Peers: []Peer{{Name: "b", Kind: TCPCL, Address: ln.Addr().String(), TLS: TLSNone}},
	})
	large := make([]byte, 8<<20)
	results := make(chan error, 1)
	offer := func(b []byte) { go func() { results <- d.Send(t.Context(), "b", [][]byte{b}) }() }
	// answer acknowledges n segments.
	answer := func(c net.Conn, br *bufio.Reader, n int) {
		t.Helper()
		var sum uint64
		for range n {
			m, err := readMessage(br)
			if err != nil || m.kind != msgSegment {
				t.Fatalf("segment: %+v %v", m, err)
			}
			_, _ = io.CopyN(io.Discard, br, int64(m.length))
			sum += m.length
			_, _ = c.Write(appendAck(nil, m.flags, m.id, sum))
		}
	}
	c, br := passive(t, ln)
	s.until(t, "the first session", func() bool { return s.up["b"] == 1 })
	offer([]byte("small"))
	answer(c, br, 1)
	if err := <-results; err != nil {
		t.Fatal(err)
	}
	offer(large)
	answer(c, br, 5)
	_ = c.Close()
	if err := <-results; !errors.Is(err, ErrSessionLost) {
		t.Fatalf("Send: %v", err)
	}
	c, br = passive(t, ln)
	s.until(t, "the next session", func() bool { return s.up["b"] == 1 && d.MRUok("b") })
	offer(large)
	answer(c, br, (8<<20)/(64<<10))
	if err := <-results; err != nil {
		t.Fatal(err)
	}
	if st := d.Peers()[0]; st.BundlesOut != 2 || st.BytesOut != 8<<20+5 {
		t.Errorf("counted %d bundles of %d bytes", st.BundlesOut, st.BytesOut)
	}
}
