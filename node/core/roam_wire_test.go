package core

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
)

func sampleRoams() []roamMessage {
	luna := originKey{addr.MustNode("luna-1"), 7, 3}
	some := &storeforward.Window{}
	some.Add(69)
	some.Add(7_000)
	return []roamMessage{
		{kind: roamClaims, upTo: 9, seq: 1 << 40, claims: []claimLine{{client: "plc-7", epoch: 8, clean: true}, {client: "", epoch: MaxStamp, settled: true}}},
		{kind: roamAnswer, upTo: 9, behind: true},
		{kind: roamHeads, floor: []mark{{luna, 1 << 50}}, heads: []head{{
			client: "plc-7", epoch: 5, since: 2, last: 70_000, await: 31, inbound: []uint16{1, 65535}, floor: []mark{{luna, 3}},
			subs: []Subscription{{Filter: "a/+", QoS: 2, NoLocal: true, ID: 9}, {Filter: "$share/g/a", RetainAsPublished: true}}, blank: true,
			notes: []note{{luna, some}},
		}}},
		{kind: roamTail, client: "plc-7", epoch: 5, classes: 8},
		{kind: roamFence, upTo: 3, seq: 4},
	}
}

func TestRoamWire(t *testing.T) {
	for _, m := range sampleRoams() {
		b := m.encode()
		if got, err := parseRoam(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
		for n := range b {
			if got, err := parseRoam(b[:n]); err == nil {
				t.Errorf("%+v cut after %d bytes came back as %+v", m, n, got)
			}
		}
	}
}

func FuzzRoam(f *testing.F) {
	for _, m := range sampleRoams() {
		f.Add(m.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseRoam(b)
		if err != nil {
			return
		}
		again, err := parseRoam(m.encode())
		if err != nil || !bytes.Equal(again.encode(), m.encode()) {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
	})
}

// TestRoamWireEarlier: a head of a version that sent no notes.
func TestRoamWireEarlier(t *testing.T) {
	m := sampleRoams()[2]
	b := m.encode()
	with := appendNotes(nil, m.heads[0].notes)
	b = b[:len(b)-len(with)]
	at := bytes.Index(b, m.heads[0].append(nil)[:1+1+len("plc-7")])
	if at < 0 || b[at] != 0x8a {
		t.Fatalf("no array of ten in %x", b)
	}
	b[at] = 0x89
	m.heads[0].notes = nil
	if got, err := parseRoam(b); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%+v came back as %+v, %v", m, got, err)
	}
}
