package core

import (
	"reflect"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/store"
)

// AppendGive encodes the step of a comparison that gives one message, with
// so many ms to live.
func AppendGive(topic string, s Stamp, n addr.Node, left int64, data []byte) []byte {
	m := syncMessage{kind: syncGive, given: []given{{topic: topic, stamp: s, node: n, left: left, data: data}}}
	return m.encode()
}

// AppendRetained is ParseRetained the other way.
func AppendRetained(r Retained) []byte {
	n := news{stamp: r.Stamp, node: r.Node, state: r.State, ends: r.Ends, blob: &store.Blob{B: r.Block}}
	return append(appendKept(nil, &n), r.Block...)
}

// SampleSteps has one step of every kind.
func SampleSteps() (out [][]byte) {
	b := addr.MustNode("b")
	for _, m := range []syncMessage{
		{kind: syncRoot, count: 3, digest: 1 << 63},
		{kind: syncBuckets, digests: []uint64{1, 2, 3, 4}},
		{kind: syncLines, more: true, buckets: 4, covered: []int{0, 3}, lines: []syncLine{{"plant/1", 7, b, 30, false}, {"plant/2", 9, b, 0, true}}},
		{kind: syncWant, topics: []string{"plant/1", "plant/2"}},
		{kind: syncGive, more: true, given: []given{
			{"plant/1", 1 << 60, b, KeptValue, 5, []byte("x plant/1 @1152921504606846976  ")}, {"plant/2", 9, b, KeptDeleted, 7, []byte{}},
		}},
		{kind: syncSame},
		{kind: syncDone},
	} {
		out = append(out, m.encode())
	}
	return out
}

// Reencode reads a step and writes it again.
func Reencode(data []byte) ([]byte, bool) {
	m, err := parseSync(data)
	if err != nil {
		return nil, false
	}
	return m.encode(), true
}

// SameStep reports whether two encodings say the same.
func SameStep(a, b []byte) bool {
	m, err1 := parseSync(a)
	n, err2 := parseSync(b)
	return err1 == nil && err2 == nil && reflect.DeepEqual(m, n)
}
