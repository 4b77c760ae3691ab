package core

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/farhop/farhop/routing/addr"
)

func sampleDuties() []duty {
	return []duty{
		{},
		{only: true, filters: []string{"$share/g/a/#"}},
		{all: true},
		{filters: []string{"$share/g/a/#", "$share/h/+"}, passed: []pass{{addr.MustNode("earth-1"), 7<<32 | 3}, {addr.MustNode("b"), 0}}},
		{only: true, visit: &visit{client: "plc-7", epoch: 1 << 60, packet: 65535, qos: 2, received: true}},
		{only: true, filters: []string{"$share/h/+"}, visit: &visit{client: "", retained: true}},
		{only: true, visit: &visit{fence: true, epoch: 7, packet: 31}},
		{only: true, share: wholeShare, visit: &visit{client: "plc-7", epoch: 1, packet: 2, qos: 1}},
		{only: true, members: []Member{{"plc-7", "$share/g/a/#"}, {"", "$share/h/+"}}},
	}
}

func TestDuty(t *testing.T) {
	for _, d := range sampleDuties() {
		b := d.encode()
		if got, err := parseDuty(b); err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("%+v came back as %+v, %v", d, got, err)
		}
		if got, err := parseDuty(append(b, 1, 2, 3)); err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("%+v with more behind came back as %+v, %v", d, got, err)
		}
		for n := 1; n < len(b); n++ {
			if got, err := parseDuty(b[:n]); err == nil {
				t.Errorf("%+v cut after %d bytes came back as %+v", d, n, got)
			}
		}
	}
}

func FuzzDuty(f *testing.F) {
	for _, d := range sampleDuties() {
		f.Add(d.encode())
	}
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDuty(b)
		if err != nil {
			return
		}
		if len(d.filters) > maxDuty || len(d.members) > maxDuty || len(d.passed) > maxPassed {
			t.Fatalf("%d filters, %d members, %d passed", len(d.filters), len(d.members), len(d.passed))
		}
		again, err := parseDuty(d.encode())
		if err != nil || !bytes.Equal(again.encode(), d.encode()) {
			t.Fatalf("%+v came back as %+v, %v", d, again, err)
		}
	})
}
