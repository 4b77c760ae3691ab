package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

var (
	luna  = addr.MustNode("luna-1")
	earth = addr.MustNode("earth-1")
)

// samples has every frame type, small and at its limits.
func samples() map[string]Frame {
	seq := bundle.NewSequence(0x9f3a2, bundle.Telemetry, 57)
	full, barring, grouped := sampleAdverts()
	return map[string]Frame{
		"hello": Hello{
			Version: Version, Node: luna, Region: addr.MustRegion("luna"), Incarnation: 0x9f3a2, Boot: 4,
			MaxFrame: MaxFrame, Software: "farhop 0.1.0",
			Salvo: Salvo{Version: SalvoVersion, Rate: 50e6, ReturnRate: 256e3, OWLT: 1280 * time.Millisecond, Loss: 0.01, Burst: 1, MTU: 1280},
			Parts: true, Epoch: 7,
		},
		"hello, largest": Hello{
			Version: math.MaxUint16, Node: luna, Incarnation: math.MaxUint32, Boot: math.MaxUint64,
			MaxFrame: math.MaxUint32, Software: strings.Repeat("x", MaxSoftware),
			Salvo: Salvo{Version: 255, Rate: math.MaxInt64, ReturnRate: math.MaxInt64, OWLT: 24 * time.Hour, Loss: 1, Burst: 1000, MTU: math.MaxUint16},
		},
		"hello, with parts": Hello{
			Version: Version, Node: luna, Parts: true, Begun: []Begun{{PartKey{1, 2, 15: 3}, 1 << 20}, {PartKey{4}, 0}},
		},
		"hello, early":                Hello{Version: Version, Node: luna, Early: true, Epoch: math.MaxUint64},
		"early":                       Early{Class: bundle.Alarm, Bundle: sampleBundle()},
		"early, large":                Early{Class: bundle.Bulk, Bundle: make([]byte, 70<<10)},
		"begin":                       Begin{},
		"hello, parts and none begun": Hello{Version: Version, Node: luna, Parts: true},
		"part":                        Part{Class: bundle.Bulk, XID: 9, Key: PartKey{7}, Total: 1 << 20, Frozen: 100, Offset: 64 << 10, Data: make([]byte, 32<<10)},
		"part, the last":              Part{Class: bundle.Alarm, XID: 9, Key: PartKey{7}, Total: 300, Frozen: 100, Offset: 299, Data: []byte{1}, Hops: []byte{2, 3}},
		"hello, one of several":       Hello{Version: Version, Node: luna, Uplink: strings.Repeat("u", MaxUplink)},
		"hello, without salvo":        Hello{Version: Version, Node: luna, Software: "farhop 0.1.0"},
		"advert":                      Advert{full},
		"advert, groups":              Advert{grouped},
		"advert, barring":             Advert{barring},
		"advert, keeps":               Advert{routing.Advert{Node: luna, Keeps: true}},
		"advert, holds":               Advert{routing.Advert{Node: luna, Sessions: true}},
		"advert, empty":               Advert{routing.Advert{Node: luna}},
		"transfer":                    Transfer{Class: bundle.Telemetry, XID: 57, Bundle: sampleBundle()},
		"transfer, large": Transfer{
			Class: bundle.Bulk, XID: math.MaxUint64,
			Bundle: make([]byte, 1<<20),
		},
		"gap": Gap{
			Class: bundle.Alarm, XID: 58, Origin: luna, Dest: addr.NodeEID(earth, "mqtt"), Bundle: seq, DSeq: 9,
			Message: bundle.ID{Node: luna, Seq: seq - 3}, Reason: bundle.Expired, Hops: 3,
		},
		"gap of another's message": Gap{
			Class: bundle.Bulk, XID: 1, Origin: luna, Dest: addr.IPN(4, 1), Bundle: seq,
			Message: bundle.ID{Node: earth, Seq: 1}, Reason: 200,
		},
		"gap, reported": Gap{
			Class: bundle.Alarm, XID: 59, Origin: luna, Dest: addr.NodeEID(earth, "mqtt"), Bundle: seq, DSeq: 10,
			Message: bundle.ID{Node: luna, Seq: seq}, Reason: bundle.Expired, Report: true,
		},
		"ack":             Ack{Class: bundle.Telemetry, XID: 57},
		"refuse":          Refuse{Class: bundle.Telemetry, XID: 57, Reason: bundle.StoreFull},
		"volatile":        Volatile{Bundle: sampleBundle()},
		"volatile, large": Volatile{Bundle: make([]byte, 200)},
		"ping":            Ping{Stamp: math.MaxUint64},
		"pong":            Pong{Stamp: 0},
		"bye":             Bye{Reason: "draining"},
		"bye, longest":    Bye{Reason: strings.Repeat("é", MaxText/2)},
		"stream open":     StreamOpen{Service: "historian", Dest: earth, Source: luna, Hops: 16, ID: 1 << 40},
		"stream reply":    StreamReply{OK: true},
		"stream refused":  StreamReply{Reason: bundle.NoRoute, Text: "connect 127.0.0.1:5432: connection refused"},
	}
}

func sampleAdverts() (full, barring, grouped routing.Advert) {
	full = routing.Advert{
		Node: luna, Region: addr.MustRegion("luna/south"), Seq: 7<<32 | 3,
		Neighbors: []routing.Neighbor{{Node: earth, Cost: 1280, Up: true}, {Node: addr.MustNode("leo-2"), Cost: 1}},
		Interest:  []string{"cmd/#", "plant/+/temp"},
		Services:  []routing.ServiceState{{Name: "historian", Up: true}, {Name: "ssh"}},
		Fleet:     routing.FleetState{Applied: 12, Refused: 11, Reason: "revision 11: port 5432 is taken"},
	}
	barring, grouped = full, full
	barring.Neighbors = []routing.Neighbor{{Node: earth, Cost: 1280, Up: true, Barred: bundle.Classes(0).With(bundle.Telemetry).With(bundle.Bulk)}}
	grouped.Groups = []routing.GroupState{{Filter: "$share/g/plant/#", Online: true}, {Filter: "$share/h/cmd"}}
	return full, barring, grouped
}

func sampleParts() (frozen, payload []byte, hop bundle.Hop) {
	p := &bundle.Primary{
		Dest: addr.NodeEID(earth, "mqtt"), Source: addr.NodeEID(luna, "mqtt"),
		Created:  bundle.Timestamp{Time: 840_000_000_000, Seq: uint64(bundle.NewSequence(0x9f3a2, bundle.Telemetry, 57))},
		Lifetime: 3_600_000,
	}
	mesh := bundle.MeshInfo{
		DSeq: 12, QoS: 1,
		Message: bundle.ID{Node: luna, Seq: bundle.NewSequence(0x9f3a2, bundle.Telemetry, 40)},
	}
	m := sampleMessage()
	hop = bundle.Hop{Prev: addr.NodeEID(luna, "node"), Age: 1500 * time.Millisecond, HopLimit: 32, HopCount: 3}
	return bundle.AppendFrozen(nil, p, mesh), bundle.AppendPayload(nil, m.Append(nil)), hop
}

func sampleMessage() Message {
	return Message{Topic: "plant/1/temp", Payload: []byte("21.5"), QoS: 1, Expiry: true, Client: "plc-7"}
}

func sampleBundle() []byte {
	frozen, payload, hop := sampleParts()
	return bundle.AppendBundle(nil, frozen, payload, hop)
}

// body returns what follows length and type of an encoded frame.
func body(t testing.TB, frame []byte) []byte {
	t.Helper()
	size, n := binary.Uvarint(frame)
	if n <= 0 || int(size) != len(frame)-n {
		t.Fatalf("length %d of %d bytes", size, len(frame))
	}
	return frame[n+1:]
}

func TestFrames(t *testing.T) {
	seen := map[Type]bool{}
	for name, f := range samples() {
		t.Run(name, func(t *testing.T) {
			seen[f.Type()] = true
			out := Append([]byte("before"), f)[6:]
			b := body(t, out)
			if got, err := Parse(f.Type(), b); err != nil || !reflect.DeepEqual(got, f) {
				t.Fatalf("%v\nread %+v\nsent %+v", err, got, f)
			}
			typ, rb, err := ReadFrame(bufio.NewReader(iotest.HalfReader(bytes.NewReader(out))), MaxFrame, nil)
			if err != nil || typ != f.Type() || !bytes.Equal(rb, b) {
				t.Errorf("ReadFrame: %v, %d bytes, %v", typ, len(rb), err)
			}
			// A later version may add an item; nothing may be missing.
			longer := append(append([]byte{b[0] + 1}, b[1:]...), 0x83, 1, 2, 3)
			if got, err := Parse(f.Type(), longer); err != nil || !reflect.DeepEqual(got, f) {
				t.Errorf("with an item more: %v, %+v", err, got)
			}
			for cut := 0; cut < min(len(b), 300); cut++ {
				if got, err := Parse(f.Type(), b[:cut]); err == nil {
					t.Fatalf("%d of %d bytes read as %+v", cut, len(b), got)
				}
			}
			if _, err := Parse(f.Type(), append(bytes.Clone(b), 0)); err == nil {
				t.Error("a byte too many passes")
			}
		})
	}
	for typ := TypeHello; typ <= TypeStreamReply; typ++ {
		if !seen[typ] || strings.HasPrefix(typ.String(), "type-") {
			t.Errorf("no sample or no name of %s", typ)
		}
	}
}

// enc encodes a body from Go values.
func enc(items ...any) []byte {
	b := cbor.AppendArray(nil, len(items))
	for _, item := range items {
		switch v := item.(type) {
		case int:
			b = cbor.AppendInt(b, int64(v))
		case string:
			b = cbor.AppendText(b, v)
		case bool:
			b = cbor.AppendBool(b, v)
		case []byte: // encoded already
			b = append(b, v...)
		}
	}
	return b
}

func TestRefused(t *testing.T) {
	eid := bundle.AppendEID(nil, addr.NodeEID(earth, "mqtt"))
	many := make([]any, routing.MaxServices+1)
	for i := range many {
		many[i] = enc("s", true)
	}
	filters := make([]any, routing.MaxFilters+1)
	for i := range filters {
		filters[i] = "a"
	}
	neighbors := make([]any, routing.MaxNeighbors+1)
	for i := range neighbors {
		neighbors[i] = enc("a", 1, true)
	}
	fleet := enc(0, 0, "")
	tests := []struct {
		name string
		typ  Type
		body []byte
		want string
	}{
		{"no array", TypePing, []byte{0}, "ping frame: byte 0: want an array"},
		{"array of indefinite length", TypePing, []byte{0x9f, 0, 0xff}, "definite length of at least 1"},
		{"too few items", TypeAck, enc(1), "at least 2 items"},
		{"hello without a node", TypeHello, enc(1, "", "", 0, 0, 0, ""), "byte 2: no sending node"},
		{"hello of a bad node", TypeHello, enc(1, "Luna", "", 0, 0, 0, ""), `byte 2: node name "Luna"`},
		{"hello of a bad region", TypeHello, enc(1, "luna", "/", 0, 0, 0, ""), "region"},
		{"hello of version 65536", TypeHello, enc(65536, "luna", "", 0, 0, 0, ""), "limit of 65535"},
		{"hello with much software", TypeHello, enc(1, "luna", "", 0, 0, 0, strings.Repeat("x", 65)), "limit of 64"},
		{"advert with many neighbours", TypeAdvert, enc("luna", "", 1, enc(neighbors...), enc(), enc(), fleet), "1025 neighbours"},
		{"advert with many filters", TypeAdvert, enc("luna", "", 1, enc(), enc(filters...), enc(), fleet), "16385 filters"},
		{"advert with many services", TypeAdvert, enc("luna", "", 1, enc(), enc(), enc(many...), fleet), "1025 services"},
		{"advert with a link for nothing", TypeAdvert, enc("luna", "", 1, enc(enc("a", 0, true)), enc(), enc(), fleet), "cost 0"},
		{"advert with a link that bars control", TypeAdvert, enc("luna", "", 1, enc(enc("a", 1, true, 1)), enc(), enc(), fleet), "bars control"},
		{"advert with a link that bars what is no class", TypeAdvert, enc("luna", "", 1, enc(enc("a", 1, true, 32)), enc(), enc(), fleet), "31"},
		{"advert with a nameless neighbour", TypeAdvert, enc("luna", "", 1, enc(enc("", 1, true)), enc(), enc(), fleet), "no neighbour node"},
		{"advert with a long service", TypeAdvert, enc("luna", "", 1, enc(), enc(), enc(enc(strings.Repeat("s", 64), true)), fleet), "limit of 63"},
		{"advert with a long reason", TypeAdvert, enc("luna", "", 1, enc(), enc(), enc(), enc(0, 0, strings.Repeat("s", 257))), "limit of 256"},
		{"transfer of class 5", TypeTransfer, enc(5, 1, []byte{0x40}), "limit of 4"},
		{"transfer 0", TypeTransfer, enc(1, 0, []byte{0x40}), "transfer number 0"},
		{"transfer of text", TypeTransfer, enc(1, 1, "x"), "want a byte string"},
		{"gap without origin", TypeGap, enc(1, 1, "", eid, 0, 0, "", 0, 0, 0), "no origin node"},
		{"gap without destination", TypeGap, enc(1, 1, "a", 0, 0, 0, "", 0, 0, 0), "want an array"},
		{"gap of class 7", TypeGap, enc(1, 1, "a", eid, 7<<40, 0, "", 0, 0, 0), "class that does not exist"},
		{"gap of a message of class 5", TypeGap, enc(1, 1, "a", eid, 0, 0, "", 5<<40, 0, 0), "class that does not exist"},
		{"ack 0", TypeAck, enc(1, 0), "transfer number 0"},
		{"refuse for reason 256", TypeRefuse, enc(1, 1, 256), "limit of 255"},
		{"negative ping", TypePing, enc(-1), "a negative integer"},
		{"long bye", TypeBye, enc(strings.Repeat("x", 257)), "limit of 256"},
		{"stream to no service", TypeStreamOpen, enc("", "a", "b", 1, 1), "no service"},
		{"stream to nobody", TypeStreamOpen, enc("s", "", "b", 1, 1), "no destination node"},
		{"stream from nobody", TypeStreamOpen, enc("s", "a", "", 1, 1), "no source node"},
		{"stream of 256 hops", TypeStreamOpen, enc("s", "a", "b", 256, 1), "limit of 255"},
		{"reply of 1", TypeStreamReply, enc(1, 0, ""), "true or false"},
	}
	for _, tt := range tests {
		f, err := Parse(tt.typ, tt.body)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v, want %q", tt.name, f, err, tt.want)
		}
	}
	if _, err := Parse(99, enc(1)); !errors.Is(err, ErrUnknownType) {
		t.Errorf("type 99: %v", err)
	}
}

// TestClipped checks that text for people is cut on the way out rather than
// refused at the far end.
func TestClipped(t *testing.T) {
	for _, f := range []Frame{
		Bye{Reason: strings.Repeat("€", 200)},
		Bye{Reason: "\xff"},
		StreamReply{Text: strings.Repeat("é", 200)},
		Hello{Node: luna, Software: strings.Repeat("x", 100)},
	} {
		got, err := Parse(f.Type(), body(t, Append(nil, f)))
		if err != nil {
			t.Errorf("%+v: %v", f, err)
		}
		if b, ok := got.(Bye); ok && len(f.(Bye).Reason) > MaxText && len(b.Reason) != MaxText-1 {
			t.Errorf("cut to %d bytes", len(b.Reason))
		}
	}
}

func TestAppendTransfer(t *testing.T) {
	frozen, payload, hop := sampleParts()
	long, err := addr.DTN("//" + strings.Repeat("n", 900) + "/x")
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]bundle.Hop{"usual": hop, "none": {NoAge: true}, "long name": {Prev: long, HopLimit: 255, HopCount: 255}} {
		for _, size := range []int{0, 1, 20, 60, 90, 100, 110, 200, 16000, 16384, 70000} {
			p := payload
			if size > 0 {
				p = bundle.AppendPayload(nil, make([]byte, size))
			}
			want := Append([]byte("before"), Transfer{Class: bundle.Bulk, XID: 300, Bundle: bundle.AppendBundle(nil, frozen, p, h)})
			got := AppendTransfer([]byte("before"), bundle.Bulk, 300, frozen, p, h)
			if !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes:\n%x, want\n%x", name, size, got[:min(len(got), 300)], want[:min(len(want), 300)])
			}
		}
	}
}

func TestReadFrame(t *testing.T) {
	var stream []byte
	stream = Append(stream, Ping{Stamp: 1})
	stream = append(stream, 3, 77, 1, 2) // a type of the future
	stream = Append(stream, Transfer{Class: 1, XID: 1, Bundle: make([]byte, 200_000)})
	stream = Append(stream, Pong{Stamp: 2})
	r := bufio.NewReader(bytes.NewReader(stream))
	var buf []byte
	for _, want := range []struct {
		typ  Type
		size int
	}{{TypePing, 2}, {77, 2}, {TypeTransfer, 200_008}, {TypePong, 2}} {
		typ, b, err := ReadFrame(r, MaxFrame, buf)
		if err != nil || typ != want.typ || len(b) != want.size {
			t.Fatalf("%v of %d bytes, %v, want %v of %d", typ, len(b), err, want.typ, want.size)
		}
		if want.typ == TypePong && &b[0] != &buf[:1][0] {
			t.Error("the buffer is not used again")
		}
		buf = b
	}
	if _, _, err := ReadFrame(r, MaxFrame, buf); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestReadFrameRefuses(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<40)
	tests := []struct {
		name string
		in   []byte
		most int
		want error
		text string
	}{
		{"no type", []byte{0}, 10, nil, "no type"},
		{"over the limit", []byte{11, 1}, 10, ErrTooLarge, "11 bytes, the limit is 10"},
		{"far over the limit", huge, MaxFrame, ErrTooLarge, ""},
		{"length of 11 bytes", bytes.Repeat([]byte{0xff}, 11), MaxFrame, nil, "read length"},
		{"cut in the length", []byte{0x80}, 10, io.ErrUnexpectedEOF, ""},
		{"cut before the type", []byte{2}, 10, io.ErrUnexpectedEOF, ""},
		{"cut in the body", []byte{9, byte(TypePing), 1}, 10, io.ErrUnexpectedEOF, "read ping frame"},
		{"cut before the body", []byte{9, byte(TypePing)}, 10, io.ErrUnexpectedEOF, "read ping frame"},
	}
	for _, tt := range tests {
		_, _, err := ReadFrame(bufio.NewReader(bytes.NewReader(tt.in)), tt.most, nil)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %v %q", tt.name, err, tt.want, tt.text)
		}
	}
}

// FuzzParse checks that no body of any type panics and that what parses is
// written back to the same frame.
func FuzzParse(f *testing.F) {
	for _, frame := range samples() {
		if b := body(f, Append(nil, frame)); len(b) < 1000 {
			f.Add(byte(frame.Type()), b)
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		frame, err := Parse(Type(typ), b)
		if err != nil {
			return
		}
		out := Append(nil, frame)
		again, err := Parse(frame.Type(), body(t, out))
		if err != nil || !reflect.DeepEqual(again, frame) {
			t.Fatalf("%v\nread %+v\nthen %+v", err, frame, again)
		}
		if out2 := Append(nil, again); !bytes.Equal(out2, out) {
			t.Fatalf("written as %x and %x", out, out2)
		}
	})
}

// FuzzReadFrame reads a stream of frames and writes them again.
func FuzzReadFrame(f *testing.F) {
	f.Add(Append(Append(nil, Ping{1}), Bye{"x"}))
	f.Add([]byte{0x80, 0, 3, 77, 1, 2})
	f.Fuzz(func(t *testing.T, in []byte) {
		const most = 1 << 16
		r := bufio.NewReader(bytes.NewReader(in))
		var buf []byte
		for total := 0; ; {
			_, b, err := ReadFrame(r, most, buf)
			if err != nil {
				return
			}
			if total += len(b) + 2; len(b) >= most || total > len(in) {
				t.Fatalf("frames of %d bytes out of %d", total, len(in))
			}
			buf = b
		}
	})
}

func BenchmarkAppendTransfer(b *testing.B) {
	frozen, _, hop := sampleParts()
	payload := bundle.AppendPayload(nil, make([]byte, 1<<10))
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendTransfer(buf[:0], bundle.Telemetry, 57, frozen, payload, hop)
	}
}

func BenchmarkParseTransfer(b *testing.B) {
	in := body(b, Append(nil, Transfer{Class: bundle.Telemetry, XID: 57, Bundle: make([]byte, 1<<10)}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(TypeTransfer, in); err != nil {
			b.Fatal(err)
		}
	}
}
