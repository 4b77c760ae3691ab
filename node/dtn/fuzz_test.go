package dtn

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

func FuzzMessages(f *testing.F) {
	f.Add(encodeInit(hello))
	f.Add(segment(flagStart, 1, "hello", 10))
	f.Add(segment(flagStart|flagEnd, 1, "hello", 5))
	f.Add(slices.Concat(appendAck(nil, 1, 2, 3), appendRefuse(nil, 1, 2), appendTerm(nil, 1, 2), appendReject(nil, 1, 2), []byte{msgKeepalive}))
	f.Add([]byte{msgSegment, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 1, 0, 1, 0, 8, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		br := bufio.NewReaderSize(bytes.NewReader(in), readBuffer)
		for {
			at := len(in) - br.Buffered()
			m, err := readMessage(br)
			if err != nil {
				return
			}
			var again []byte
			switch m.kind {
			case msgAck:
				again = appendAck(nil, m.flags, m.id, m.length)
			case msgRefuse:
				again = appendRefuse(nil, m.reason, m.id)
			case msgTerm:
				again = appendTerm(nil, m.flags, m.reason)
			case msgReject:
				again = appendReject(nil, m.reason, m.rejected)
			}
			if read := in[min(at, len(in)):]; again != nil && len(read) == len(in) && !bytes.HasPrefix(read, again) {
				t.Errorf("% x was read as % x", read[:len(again)], again)
			}
			if m.kind == msgSegment {
				if n, _ := br.Discard(int(min(m.length, 1<<30))); uint64(n) != m.length {
					return
				}
			}
		}
	})
}

func FuzzContact(f *testing.F) {
	f.Add(encodeContact(true))
	f.Add([]byte("dtn!\x03\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := parseContact(in)
		if err == nil && c.version == version && in[5] <= 1 && !bytes.Equal(in, encodeContact(c.canTLS)) {
			t.Errorf("% x was read as %+v", in, c)
		}
	})
}

// FuzzSession plays a whole peer: whatever it says, the session ends and
// gives back what it held.
func FuzzSession(f *testing.F) {
	begin := append(encodeContact(false), encodeInit(hello)...)
	f.Add(begin)
	f.Add(slices.Concat(begin, segment(flagStart, 1, "hel", 5), segment(flagEnd, 1, "lo", 5), appendTerm(nil, 0, 0)))
	f.Add(slices.Concat(begin, segment(3, 1, "hello", 5), appendAck(nil, 3, 0, 5), appendReject(nil, 1, 1)))
	f.Add(slices.Concat(begin, segment(flagStart, 1, "hel", 500), segment(3, 2, "lo", 5), []byte{99}))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newSink()
		d, err := New(Config{
			Node: eid(t, "dtn://b/"), Sink: s, Drain: 10 * time.Millisecond, Log: logger(t),
			Limits: Limits{TransferMRU: 1000, SegmentMRU: 500, Buffer: 2000},
		})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() { _, _ = theirs.Write(in); _ = theirs.Close() }()
		c := &contact{cfg: &d.cfg, policy: TLSNone}
		c.lookup = func(n addr.EID) (*peer, Auth, error) { return d.known(n, Listener{Strangers: true}) }
		_ = d.tcpcl(t.Context(), ours, c, time.Second, time.Microsecond, func() {})
		if held := d.budget.held(); held != 0 {
			t.Errorf("%d bytes held", held)
		}
	})
}

// FuzzPlain plays a peer of STCP and MTCP.
func FuzzPlain(f *testing.F) {
	f.Add(append(STCP.appendHead(nil, 5), "hello"...), true)
	f.Add(append(MTCP.appendHead(nil, 300), make([]byte, 300)...), false)
	f.Add([]byte{0x40, 0x41, 1, 0x5f}, false)
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, in []byte, stcp bool) {
		s := newSink()
		d, err := New(Config{Node: eid(t, "dtn://b/"), Sink: s, Log: logger(t), Limits: Limits{TransferMRU: 1000, Buffer: 2000}})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		go func() { _, _ = theirs.Write(in); _ = theirs.Close() }()
		kind := MTCP
		if stcp {
			kind = STCP
		}
		_ = d.plainIn(t.Context(), ours, Listener{Kind: kind})
		if held := d.budget.held(); held != 0 {
			t.Errorf("%d bytes held", held)
		}
	})
}
