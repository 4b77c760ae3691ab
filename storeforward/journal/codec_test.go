package journal

import (
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

func testHeader(seq uint64) *store.Header {
	return &store.Header{
		Seq: seq, Message: bundle.ID{Node: addr.MustNode("origin"), Seq: bundle.NewSequence(7, bundle.Telemetry, seq)},
		Origin: addr.MustNode("maker"), Prev: addr.MustNode("hop"), Class: bundle.Telemetry, Hops: 3, QoS: 1, Retain: seq%2 == 0,
		Topic: fmt.Sprint("plant/", seq%7), Service: "mqtt", Charge: "a", Count: uint16(seq % 3),
		Received: 1_700_000_000_000 + int64(seq), Expires: 1_700_003_600_000 + int64(seq), Size: 40,
		Entries: []store.Entry{
			{Queue: store.Queue{Kind: store.ToNode, Name: "next", Class: bundle.Telemetry}, Bundle: bundle.Sequence(seq), DSeq: seq, QoS: 1, Frozen: []byte("frozen")},
			{Queue: store.Queue{Kind: store.ToSession, Name: "client"}, QoS: 200, State: store.Ended},
		},
	}
}

// decodeAll reads all blocks of an encoder's buffer.
func decodeAll(t *testing.T, buf []byte, seed uint32) (out []any) {
	t.Helper()
	for at := 0; at < len(buf); {
		h, err := parseBlockHead(buf[at:], int64(len(buf)-at))
		if err != nil || !bodySound(buf[at:], seed, &h) {
			t.Fatalf("block at %d of %d: %v", at, len(buf), err)
		}
		var d decoder
		tail := buf[at+blockHeadLen+h.body : at+int(h.size())]
		d.start(buf[at+blockHeadLen:at+blockHeadLen+h.body], h.tail)
		var r record
		for d.next(&r) {
			switch r.kind {
			case recPut:
				h, err := d.header(&r.putFields)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, h)
				b := r.payload
				if r.tail {
					b = tail
				}
				out = append(out, append([]byte{}, b...))
			case recDrop:
				out = append(out, store.Drop{Queue: d.queues[r.queue].queue(), Seq: r.seq, Size: r.size})
			case recMark:
				out = append(out, store.Mark{Queue: d.queues[r.queue].queue(), Seq: r.seq, State: r.state, Size: r.size})
			case recSet:
				out = append(out, string(r.key), r.del, string(r.value))
			case recHigh:
				out = append(out, r.seq)
			}
		}
		if d.err != nil {
			t.Fatalf("block at %d: %v", at, d.err)
		}
		at += int(h.size())
	}
	return out
}

// Everything comes back as it was written, over many blocks.
func TestCodecRoundTrip(t *testing.T) {
	e := newEncoder()
	e.reset(0)
	var want []any
	for seq := uint64(1); seq < 3000; seq += 1 + seq%3 {
		h := testHeader(seq)
		if seq%50 == 1 {
			h = &store.Header{Seq: seq, Entries: []store.Entry{}}
		}
		p := make([]byte, seq%60)
		if seq%500 == 1 {
			p = make([]byte, 50_000)
		}
		e.putMessage(h, h.Entries, body{b: p, has: true})
		want = append(want, h, p)
		if seq%5 == 0 {
			d := store.Drop{Queue: queueNamed(seq % 9), Seq: math.MaxUint64 - seq, Size: uint32(seq % 3)}
			m := store.Mark{Queue: queueNamed(seq % 4), Seq: seq, State: store.Received, Size: 9}
			e.drop(d.Queue, d.Seq, d.Size)
			e.mark(&m, m.Size)
			e.set("key", [][]byte{[]byte("val"), []byte("ue")}, false)
			e.set("", nil, true)
			e.high(seq)
			want = append(want, d, m, "key", false, "value", "", true, "", seq)
		}
	}
	e.seal(99, 1, 0)
	if got := decodeAll(t, e.buf, 99); !reflect.DeepEqual(got, want) {
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("record %d: %+v\nwant %+v", i, got[i], want[i])
			}
		}
	}
	if len(e.blocks) < 5 {
		t.Errorf("%d blocks", len(e.blocks))
	}
}

func queueNamed(n uint64) store.Queue {
	return store.Queue{Kind: store.ToNode, Name: fmt.Sprint("queue ", n)}
}

// Beside payload and frozen blocks a message of a crowd takes little.
func TestOverhead(t *testing.T) {
	e := newEncoder()
	e.reset(0)
	const n = 1000
	for seq := uint64(1); seq <= n; seq++ {
		h := testHeader(seq)
		h.Entries = h.Entries[:1]
		h.Entries[0].Queue = queueNamed(seq % 10)
		h.Entries[0].DSeq = seq / 10
		h.Entries[0].Frozen = make([]byte, 75)
		h.Size = 256
		e.putMessage(h, h.Entries, body{b: make([]byte, 256), has: true})
	}
	e.seal(1, 1, 0)
	if over := len(e.buf)/n - 256 - 75; over > 30 {
		t.Errorf("%d bytes of overhead per message, want 30 at most", over)
	} else {
		t.Logf("%d bytes of overhead per message", over)
	}
}

func TestSegHead(t *testing.T) {
	h := segHead{identity: newIdentity(), kind: hot, num: 5, last: 5, firstBlock: 9, prevEnd: 1000, high: 77, nonce: 3}
	b := h.append(nil)
	got, err := parseSegHead(b)
	if err != nil || got != h || len(b) != segHeadLen {
		t.Fatalf("%+v, %v", got, err)
	}
	for at := range b {
		b[at] ^= 4
		if _, err := parseSegHead(b); err == nil {
			t.Errorf("a flip in byte %d was not noticed", at)
		}
		b[at] ^= 4
	}
}

func TestFileNames(t *testing.T) {
	for _, h := range []segHead{{kind: hot, num: 1, last: 1}, {kind: cold, num: 3, last: 99, firstBlock: 12}} {
		got, ok := parseName(h.fileName())
		if !ok || got != h {
			t.Errorf("%s: %+v, %v", h.fileName(), got, ok)
		}
	}
	for _, name := range []string{"", "1.seg", "lock", "index.db", "000000000000000g.seg", "0000000000000001.seg.new", "a-b.cold", "0000000000000003-0000000000000001.1.cold"} {
		if _, ok := parseName(name); ok {
			t.Errorf("%q passed for a segment", name)
		}
	}
}

// No bytes make the decoder panic, or return what its limits forbid.
func FuzzDecode(f *testing.F) {
	e := newEncoder()
	e.reset(0)
	h := testHeader(7)
	e.putMessage(h, h.Entries, body{b: make([]byte, 30), has: true})
	e.drop(queueNamed(1), 3, 4)
	e.mark(&store.Mark{Queue: queueNamed(1), Seq: 3}, 4)
	e.set("key", [][]byte{{1, 2}}, false)
	e.high(9)
	e.seal(0, 1, 0)
	f.Add(e.buf[blockHeadLen:], 0)
	f.Add([]byte{recPut, putTail | putPayload, 0xff, 1}, 9)
	f.Fuzz(func(t *testing.T, b []byte, tail int) {
		var d decoder
		d.start(b, tail)
		var r record
		for last := uint64(0); d.next(&r); {
			if r.kind != recPut {
				continue
			}
			got, err := d.header(&r.putFields)
			if err != nil {
				continue
			}
			if got.Seq <= last || got.Class >= bundle.NumClasses || len(got.Entries) > len(b) {
				t.Fatalf("message %d after %d: %+v", got.Seq, last, got)
			}
			last = got.Seq
		}
	})
}

// A file of any bytes is read without a panic, and never as blocks of another
// segment.
func FuzzBlocks(f *testing.F) {
	e := newEncoder()
	e.reset(0)
	e.drop(queueNamed(1), 3, 4)
	e.seal(1, 1, 0)
	f.Add(append([]byte{0}, e.buf...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for at := 0; at < len(b); at++ {
			if at = findBlock(b, at, 1); at == len(b) {
				break
			}
			h, err := parseBlockHead(b[at:], 1<<40)
			if err != nil || !bodySound(b[at:], 1, &h) || bodySound(b[at:], 2, &h) {
				t.Fatalf("block at %d: %+v, %v", at, h, err)
			}
		}
		if h, err := parseSegHead(b); err == nil && string(h.append(nil)) != string(b[:segHeadLen]) {
			t.Fatal("the head of a segment has two forms")
		}
	})
}
