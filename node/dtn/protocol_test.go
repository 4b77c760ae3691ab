package dtn

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// listen starts a door that accepts strangers over plain TCPCL.
func listen(t testing.TB, change func(*Config)) (*Door, *sink, string) {
	t.Helper()
	s := newSink()
	c := Config{
		Node: eid(t, "dtn://b/"), Sink: s, Drain: time.Second, Keepalive: -1,
		Listeners: []Listener{{Kind: TCPCL, Address: "127.0.0.1:0", TLS: TLSNone, Strangers: true}},
	}
	if change != nil {
		change(&c)
	}
	d, _ := start(t, c)
	return d, s, d.Addresses()[0]
}

var hello = sessInit{segmentMRU: 1 << 20, transferMRU: 1 << 30, nodeID: "ipn:7.0"}

// greet makes a session by hand and returns the reader of it.
func greet(t testing.TB, address string, own sessInit) (raw, *bufio.Reader) {
	t.Helper()
	r := dialRaw(t, address)
	r.say(encodeContact(false))
	var head [contactLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatal(err)
	}
	if c, err := parseContact(head[:]); err != nil || c.version != 4 || c.canTLS {
		t.Fatalf("contact header % x: %v", head, err)
	}
	r.say(encodeInit(own))
	br := bufio.NewReader(r)
	m, err := readMessage(br)
	if err != nil || m.kind != msgInit || m.init.nodeID != "dtn://b/" {
		t.Fatalf("SESS_INIT: %+v %v", m, err)
	}
	return r, br
}

// segment is an XFER_SEGMENT with its data.
func segment(flags byte, id uint64, data string, total int) []byte {
	return append(appendSegment(nil, flags, id, uint64(len(data)), uint64(total)), data...)
}

// brief is a message without what does not matter for comparisons.
type brief struct {
	kind, flags, reason, rejected byte
	id, length                    uint64
}

// replies reads messages until the end of the stream or n of them.
func replies(t testing.TB, br *bufio.Reader, n int) (out []brief) {
	t.Helper()
	for len(out) < n {
		m, err := readMessage(br)
		if err != nil {
			return out
		}
		out = append(out, brief{m.kind, m.flags, m.reason, m.rejected, m.id, m.length})
	}
	return out
}

const (
	all  = 1000 // replies to read: to the end, the session has to end
	both = byte(flagStart | flagEnd)
)

// breach is something a peer says, and what it hears.
type breach struct {
	name string
	say  []byte
	n    int
	want []brief
	got  int // bundles that arrived
}

// outOfOrder are segments and where they may stand.
func outOfOrder() []breach {
	rejected := brief{kind: msgReject, reason: rejectUnexpected, rejected: msgSegment}
	return []breach{
		{"a bundle", segment(both, 1, "hi", 2), 1, []brief{{kind: msgAck, flags: both, id: 1, length: 2}}, 1},
		{
			"two segments", slices.Concat(segment(flagStart, 1, "h", 2), segment(flagEnd, 1, "i", 2)), 2,
			[]brief{{kind: msgAck, flags: flagStart, id: 1, length: 1}, {kind: msgAck, flags: flagEnd, id: 1, length: 2}},
			1,
		},
		{"an end without a start", segment(flagEnd, 1, "i", 2), 1, []brief{rejected}, 0},
		{
			"a middle without a start", slices.Concat(segment(0, 1, "i", 2), segment(both, 2, "hi", 2)), 2,
			[]brief{rejected, {kind: msgAck, flags: both, id: 2, length: 2}},
			1,
		},
		{
			"a start within a transfer", slices.Concat(segment(flagStart, 1, "h", 2), segment(both, 2, "hi", 2), segment(flagEnd, 1, "i", 2)), 3,
			[]brief{rejected, {kind: msgAck, flags: flagStart, id: 1, length: 1}, {kind: msgAck, flags: flagEnd, id: 1, length: 2}},
			1,
		},
		{
			"a segment of another transfer", slices.Concat(segment(flagStart, 1, "h", 2), segment(flagEnd, 2, "i", 2), segment(flagEnd, 1, "i", 2)), 3,
			[]brief{rejected, {kind: msgAck, flags: flagStart, id: 1, length: 1}, {kind: msgAck, flags: flagEnd, id: 1, length: 2}},
			1,
		},
	}
}

// breaches are lengths, extensions and messages.
func breaches() []breach {
	extensions := func(list ...byte) []byte {
		b := append([]byte{msgSegment, both}, 0, 0, 0, 0, 0, 0, 0, 1)
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		return append(append(b, list...), 0, 0, 0, 0, 0, 0, 0, 2, 'h', 'i')
	}
	return []breach{
		{
			"more than the announced length", slices.Concat(segment(flagStart, 1, "h", 2), segment(flagEnd, 1, "ello", 2)), 2,
			[]brief{{kind: msgAck, flags: flagStart, id: 1, length: 1}, {kind: msgRefuse, reason: refuseNotAcceptable, id: 1}},
			0,
		},
		{
			"less than the announced length", slices.Concat(segment(flagStart, 1, "h", 9), segment(flagEnd, 1, "i", 9)), 2,
			[]brief{{kind: msgAck, flags: flagStart, id: 1, length: 1}, {kind: msgRefuse, reason: refuseNotAcceptable, id: 1}},
			0,
		},
		{
			"an announced length above the MRU", slices.Concat(segment(flagStart, 1, "h", 1<<40), segment(both, 2, "hi", 2)), 2,
			[]brief{{kind: msgRefuse, reason: refuseNoResources, id: 1}, {kind: msgAck, flags: both, id: 2, length: 2}},
			1,
		},
		{"a lying segment length", appendSegment(nil, both, 1, 1<<60, 0), all, []brief{{kind: msgTerm, reason: termResources}}, 0},
		{
			"a huge list of extensions", append([]byte{msgSegment, both, 0, 0, 0, 0, 0, 0, 0, 1}, 0xff, 0xff, 0xff, 0xff), all,
			[]brief{{kind: msgTerm, reason: termResources}},
			0,
		},
		{
			"extensions beyond their list", extensions(0, 0, 9, 0, 200, 1), all,
			[]brief{{kind: msgReject, reason: rejectUnsupported, rejected: msgSegment}, {kind: msgTerm}},
			0,
		},
		{"an unknown extension", extensions(0, 0, 9, 0, 1, 1), 1, []brief{{kind: msgAck, flags: both, id: 1, length: 2}}, 1},
		{"an unknown critical extension", extensions(flagCritical, 0, 9, 0, 1, 1), 1, []brief{{kind: msgRefuse, reason: refuseExtension, id: 1}}, 0},
		{"an ack of nothing", appendAck(nil, both, 9, 1), 1, []brief{{kind: msgReject, reason: rejectUnexpected, rejected: msgAck}}, 0},
		{"a refusal of nothing", appendRefuse(nil, 0, 9), 1, []brief{{kind: msgReject, reason: rejectUnexpected, rejected: msgRefuse}}, 0},
		{"a second SESS_INIT", encodeInit(hello), 1, []brief{{kind: msgReject, reason: rejectUnexpected, rejected: msgInit}}, 0},
		{"a keepalive", append([]byte{msgKeepalive}, segment(both, 1, "hi", 2)...), 1, []brief{{kind: msgAck, flags: both, id: 1, length: 2}}, 1},
		{"an unknown message", []byte{0x42, 1, 2, 3}, all, []brief{{kind: msgReject, reason: rejectType, rejected: 0x42}, {kind: msgTerm}}, 0},
		{"nonsense for ever", bytes.Repeat(appendAck(nil, 0, 9, 1), 100), all, append(slices.Repeat([]brief{{kind: msgReject, reason: rejectUnexpected, rejected: msgAck}}, maxStrikes),
			brief{kind: msgTerm}), 0},
		{"a peaceful end", appendTerm(nil, 0, termIdle), all, []brief{{kind: msgTerm, flags: flagReply, reason: termIdle}}, 0},
		{"a rejected message", appendReject(nil, rejectType, msgSegment), all, nil, 0},
	}
}

// TestPeerBreaksRules says what is answered to each breach, by the RFC.
func TestPeerBreaksRules(t *testing.T) {
	for _, c := range append(outOfOrder(), breaches()...) {
		t.Run(c.name, func(t *testing.T) {
			d, s, address := listen(t, nil)
			r, br := greet(t, address, hello)
			r.say(c.say)
			// Rejections may overtake the answers to segments, nothing else does.
			got := replies(t, br, c.n)
			for _, list := range [][]brief{got, c.want} {
				slices.SortStableFunc(list, func(a, b brief) int { return cmp.Compare(order(a), order(b)) })
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("answered\n%+v, want\n%+v", got, c.want)
			}
			_ = r.Close()
			s.until(t, "the bundles", func() bool { return len(s.got) == c.got })
			s.until(t, "the end", func() bool { return d.Stats().Sessions == 0 && d.Stats().Held == 0 })
		})
	}
}

// order puts rejections first and leaves the rest as it came.
func order(b brief) int {
	if b.kind == msgReject {
		return 0
	}
	return 1
}

// TestContact says what happens before there is a session.
func TestContact(t *testing.T) {
	for _, c := range []struct {
		name   string
		say    []byte
		change func(*Config)
		want   []byte // after our own contact header, if any; then the end
		header bool
	}{
		{name: "no contact header", say: []byte("GET / HTTP/1.1\r\n\r\n")},
		{name: "version 3", say: []byte("dtn!\x03\x00"), header: true, want: appendTerm(nil, 0, termVersion)},
		{
			name: "TLS is required", say: encodeContact(false), header: true, want: appendTerm(nil, 0, termContact),
			change: func(c *Config) {
				a := newAuthority(t)
				c.Listeners[0].TLS, c.TLS = TLSRequired, a.tls(t, []string{"dtn://b/"}, nil)
			},
		},
		{
			name: "a transfer before SESS_INIT", say: append(encodeContact(false), segment(3, 1, "hi", 2)...), header: true,
			want: appendTerm(appendReject(nil, rejectUnexpected, msgSegment), 0, 0),
		},
		{
			name: "a node id that is none", say: append(encodeContact(false), encodeInit(sessInit{segmentMRU: 1, transferMRU: 1, nodeID: "http://x"})...),
			header: true, want: appendTerm(nil, 0, termContact),
		},
		{
			name: "our own node id", say: append(encodeContact(false), encodeInit(sessInit{segmentMRU: 1, transferMRU: 1, nodeID: "dtn://b/"})...),
			header: true, want: appendTerm(nil, 0, termContact),
		},
		{
			name: "a stranger", say: append(encodeContact(false), encodeInit(hello)...), header: true,
			change: func(c *Config) { c.Listeners[0].Strangers = false }, want: appendTerm(nil, 0, termContact),
		},
		{
			name: "an MRU of nothing", say: append(encodeContact(false), encodeInit(sessInit{nodeID: "ipn:7.0"})...), header: true,
			want: appendTerm(nil, 0, termContact),
		},
		{
			name: "a lying node id length", say: append(encodeContact(false), append([]byte{msgInit}, bytes.Repeat([]byte{0xff}, 20)...)...), header: true,
			want: appendTerm(nil, 0, termContact),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, s, address := listen(t, c.change)
			r := dialRaw(t, address)
			r.say(c.say)
			got, _ := io.ReadAll(r) // a reset is an end, too
			if c.header {
				own, err := parseContact(got[:min(len(got), contactLen)])
				if err != nil || own.version != 4 {
					t.Fatalf("answered % x", got)
				}
				got = got[contactLen:]
			}
			if !bytes.Equal(got, c.want) {
				t.Errorf("answered % x, want % x", got, c.want)
			}
			s.until(t, "the end", func() bool { return d.Stats().Sessions == 0 })
		})
	}
}

// TestTurnedAway fills all places with connections that say nothing.
func TestTurnedAway(t *testing.T) {
	d, s, address := listen(t, func(c *Config) { c.Limits.Sessions = 4 })
	for range 2 { // half of the places are for beginners
		dialRaw(t, address)
	}
	s.until(t, "two beginners", func() bool { return d.Stats().Sessions == 2 })
	if _, err := dialRaw(t, address).Read(make([]byte, 1)); err == nil {
		t.Error("a third beginner was served")
	}
	if n := d.Stats().TurnedAway; n != 1 {
		t.Errorf("turned away %d", n)
	}
}

// TestSilence: keepalives were agreed on and the peer sends none.
func TestSilence(t *testing.T) {
	_, _, address := listen(t, func(c *Config) { c.Keepalive = time.Second })
	own := hello
	own.keepalive = 1
	_, br := greet(t, address, own)
	got := replies(t, br, 100)
	want := []brief{{kind: msgTerm, reason: termIdle}}
	got = slices.DeleteFunc(got, func(b brief) bool { return b.kind == msgKeepalive })
	if !slices.Equal(got, want) {
		t.Errorf("answered %+v, want %+v", got, want)
	}
}

// TestBudget: two transfers that both begin cannot both be held; the one that
// finds no room is refused and the other arrives.
func TestBudget(t *testing.T) {
	d, s, address := listen(t, func(c *Config) { c.Limits.TransferMRU, c.Limits.Buffer = 1000, 2000 })
	part := string(make([]byte, 900))
	conns := make([]raw, 3)
	readers := make([]*bufio.Reader, 3)
	for i := range conns {
		conns[i], readers[i] = greet(t, address, hello)
		conns[i].say(segment(flagStart, 1, part, 901))
		want := []brief{{kind: msgAck, flags: flagStart, id: 1, length: 900}}
		if i == 2 {
			want = []brief{{kind: msgRefuse, reason: refuseNoResources, id: 1}}
		}
		if got := replies(t, readers[i], 1); !slices.Equal(got, want) {
			t.Fatalf("transfer %d: %+v, want %+v", i, got, want)
		}
	}
	conns[0].say(segment(flagEnd, 1, "x", 901))
	if got := replies(t, readers[0], 1); !slices.Equal(got, []brief{{kind: msgAck, flags: flagEnd, id: 1, length: 901}}) {
		t.Errorf("the first: %+v", got)
	}
	_ = conns[1].Close() // dies with a transfer begun
	s.until(t, "what the dead session held", func() bool { return d.Stats().Held == 0 })
	if n := d.Stats().BudgetRefusals; n != 1 {
		t.Errorf("%d refusals", n)
	}
}

// TestBudgetWaits: what is complete and waits for its commit makes others wait
// instead of being refused.
func TestBudgetWaits(t *testing.T) {
	_, s, address := listen(t, func(c *Config) { c.Limits.TransferMRU, c.Limits.Buffer = 1000, 2000 })
	s.set(func() { s.hold = true })
	r, br := greet(t, address, hello)
	part := string(make([]byte, 900))
	for i := range 3 {
		r.say(segment(flagStart|flagEnd, uint64(i), part, 900))
	}
	s.until(t, "two that wait for their commit", func() bool { return len(s.waits) == 2 })
	s.waits[0](bundle.OK)
	s.until(t, "the third", func() bool { return len(s.waits) == 3 })
	s.waits[1](bundle.OK)
	s.waits[2](bundle.OK)
	for i, m := range replies(t, br, 3) {
		if m.kind != msgAck || m.id != uint64(i) {
			t.Errorf("answer %d: %+v", i, m)
		}
	}
}

// TestPeerEndsWhileSending: after SESS_TERM of the peer nothing begins.
func TestPeerEndsWhileSending(t *testing.T) {
	d, _, address := listen(t, func(c *Config) {
		c.Peers = []Peer{{Name: "raw", Kind: TCPCL, Node: eid(t, "ipn:7.0"), TLS: TLSNone}}
	})
	r, br := greet(t, address, hello)
	result := make(chan error, 1)
	go func() {
		for !d.MRUok("raw") {
			time.Sleep(time.Millisecond)
		}
		result <- d.Send(context.Background(), "raw", [][]byte{[]byte("hi")})
	}()
	m, err := readMessage(br)
	if err != nil || m.kind != msgSegment {
		t.Fatal(m, err)
	}
	_, _ = br.Discard(int(m.length))
	r.say(appendTerm(nil, 0, 0))
	if got := replies(t, br, 1); !slices.Equal(got, []brief{{kind: msgTerm, flags: flagReply}}) {
		t.Fatalf("answered %+v", got)
	}
	if err := d.Send(context.Background(), "raw", [][]byte{[]byte("late")}); err == nil {
		t.Error("a transfer began after SESS_TERM")
	}
	r.say(segment(3, 1, "late too", 8))
	r.say(appendAck(nil, m.flags, m.id, m.length))
	if err := <-result; err != nil {
		t.Errorf("the transfer under way: %v", err)
	}
	if got := replies(t, br, 9); !slices.Equal(got, []brief{{kind: msgRefuse, reason: refuseTerminating, id: 1}}) {
		t.Errorf("answered %+v", got)
	}
}

// TestPeerNeverFinishes: a peer that ends the session in the middle of its own
// transfer, and then says no more, holds nothing for long.
func TestPeerNeverFinishes(t *testing.T) {
	d, s, address := listen(t, func(c *Config) { c.Drain = 50 * time.Millisecond })
	r, br := greet(t, address, hello)
	r.say(segment(flagStart, 1, "begun", 100))
	r.say(appendTerm(nil, 0, 0))
	if got := replies(t, br, 9); len(got) != 2 {
		t.Errorf("answered %+v", got)
	}
	s.until(t, "the end", func() bool { return d.Stats().Sessions == 0 && d.Stats().Held == 0 })
}

// TestWrongAck ends a session whose peer acknowledges what was never sent.
func TestWrongAck(t *testing.T) {
	d, _, address := listen(t, func(c *Config) {
		c.Peers = []Peer{{Name: "raw", Kind: TCPCL, Node: eid(t, "ipn:7.0"), TLS: TLSNone}}
	})
	r, br := greet(t, address, hello)
	result := make(chan error, 1)
	go func() {
		for !d.MRUok("raw") {
			time.Sleep(time.Millisecond)
		}
		result <- d.Send(context.Background(), "raw", [][]byte{[]byte("hi")})
	}()
	m, err := readMessage(br)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = br.Discard(int(m.length))
	r.say(appendAck(nil, flagEnd, m.id, 1000))
	if err := <-result; err == nil {
		t.Error("Send succeeded")
	}
}
