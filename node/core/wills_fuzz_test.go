package core

import (
	"bytes"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// What parses is a will that is written and read again the same; and what was
// written is read.
func FuzzParseWill(f *testing.F) {
	for _, w := range []Will{
		{Topic: "a", Blob: &store.Blob{}},
		{Topic: "plant/1", Class: bundle.Bulk, QoS: 2, Retain: true, Clear: true, TTL: time.Hour, Delay: NeverExpires, Blob: &store.Blob{B: []byte("payload")}},
	} {
		b := append(w.append(), w.Blob.B...)
		if got, err := parseWill(b); err != nil || got.Topic != w.Topic || got.TTL != w.TTL || got.Delay != w.Delay || got.QoS != w.QoS {
			f.Fatalf("%+v is read as %+v, %v", w, got, err)
		}
		f.Add(b)
	}
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWill(b)
		if err != nil {
			return
		}
		again, err := parseWill(append(w.append(), w.Blob.B...))
		if err != nil || again.Topic != w.Topic || again.TTL != w.TTL || again.Delay != w.Delay ||
			again.QoS != w.QoS || again.Retain != w.Retain || again.Clear != w.Clear || again.Class != w.Class || !bytes.Equal(again.Blob.B, w.Blob.B) {
			t.Errorf("%+v is read again as %+v, %v", w, again, err)
		}
	})
}
