package parcel

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func sign(digest []byte) ([]byte, error) { return append([]byte("signed "), digest...), nil }

func verify(_ Header, digest, signature []byte) error {
	if string(signature) != "signed "+string(digest) {
		return errors.New("another digest")
	}
	return nil
}

func header() Header {
	return Header{ID: strings.Repeat("0f", 16), Node: addr.MustNode("ship"), Store: 7, Created: time.Date(2031, 5, 6, 12, 0, 0, 0, time.UTC), Dated: true}
}

func items() []Item {
	return []Item{
		{1, bundle.Alarm, []byte("first")}, {1, bundle.Alarm, []byte("the same message, elsewhere")}, {500, bundle.Bulk, bytes.Repeat([]byte("x"), 70<<10)},
	}
}

// parcelOf is a file of bundles.
func parcelOf(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Bundles, header())
	for _, i := range items() {
		err = errors.Join(err, w.Bundle(i.Seq, i.Class, i.Bundle))
	}
	if err = errors.Join(err, w.End(sign)); err != nil || w.Size() != int64(out.Len()) || w.Count() != 3 {
		t.Fatalf("%v: %d bytes, want %d", err, w.Size(), out.Len())
	}
	return out.Bytes()
}

func keys() []Key { return []Key{{9, 3}, {2, 5}, {9, 1}, {1 << 60, 4}} }

func receiptOf(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	h := header()
	h.From = addr.MustNode("luna-1")
	w, err := NewWriter(&out, Receipt, h)
	if err = errors.Join(err, w.Taken(keys()), w.End(sign)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestRoundTrip: what is written is read.
func TestRoundTrip(t *testing.T) {
	var got []Item
	data := parcelOf(t)
	w, err := Read(bytes.NewReader(data), Reader{Verify: verify, Item: func(i Item) error {
		i.Bundle = bytes.Clone(i.Bundle)
		got = append(got, i)
		return nil
	}})
	if err != nil || !reflect.DeepEqual(got, items()) || w.Kind != Bundles || w.Bundles != 3 || w.Size != int64(len(data)) {
		t.Errorf("%v: %+v", err, w)
	}
	if want := header(); w.Header.ID != want.ID || w.Header.Node != want.Node || !w.Header.Created.Equal(want.Created) || w.Header.Version != version {
		t.Errorf("header %+v", w.Header)
	}
	var taken []Key
	w, err = Read(bytes.NewReader(receiptOf(t)), Reader{Verify: verify, Taken: func(k Key) error { taken = append(taken, k); return nil }})
	if want := []Key{{2, 5}, {9, 1}, {9, 3}, {1 << 60, 4}}; err != nil || !reflect.DeepEqual(taken, want) || w.Taken != 4 {
		t.Errorf("%v: %v, want %v", err, taken, want)
	}
}

// TestDamage: a file that is cut off, changed in any byte, or followed by
// something is no file, and the error tells where.
func TestDamage(t *testing.T) {
	for name, data := range map[string][]byte{"bundles": parcelOf(t), "receipt": receiptOf(t)} {
		try := func(what string, at int, changed []byte) {
			_, err := Read(bytes.NewReader(changed), Reader{Verify: verify})
			var e *Error
			if !errors.As(err, &e) || e.Offset > int64(at) || e.Offset < 0 {
				t.Errorf("%s %s at %d: %v", name, what, at, err)
			}
		}
		step := max(1, len(data)/600)
		for at := 0; at < len(data); at += step {
			try("cut", at, data[:at])
			changed := bytes.Clone(data)
			changed[at] ^= 0x41
			try("changed", at, changed)
		}
		try("followed", len(data), append(bytes.Clone(data), 'x'))
	}
}

// TestForged: records that were left out, or put in, with good checksums.
func TestForged(t *testing.T) {
	data := parcelOf(t)
	digest := errors.New("the signature is asked for")
	_, err := Read(bytes.NewReader(data), Reader{Verify: func(h Header, _, _ []byte) error {
		if h.Node.String() != "ship" {
			t.Errorf("asked about %s", h.Node)
		}
		return digest
	}})
	if !errors.Is(err, digest) || !strings.Contains(err.Error(), "not signed by ship of this mesh") {
		t.Errorf("%v", err)
	}
	head, err := appendHeader(nil, Bundles, Header{Version: version, ID: header().ID, Node: header().Node, Created: header().Created})
	if err != nil {
		t.Fatal(err)
	}
	for what, rest := range map[string][]byte{
		"a number for a bundle": appendRecord(nil, recTaken, []byte{1, 1, 1}), "a header again": appendRecord(nil, recHeader, []byte("{}")),
		"no class": appendRecord(nil, recBundle, []byte{1}), "a class that is none": appendRecord(nil, recBundle, []byte{1, 9, 1}),
		"no such record": appendRecord(nil, 77), "a count that is wrong": appendRecord(nil, recEnd, []byte{4}), "a length beyond all": {recBundle, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		_, err := Read(bytes.NewReader(append(bytes.Clone(head), rest...)), Reader{Verify: func(Header, []byte, []byte) error { return nil }})
		var e *Error
		if !errors.As(err, &e) || e.Offset != int64(len(head)) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLimits: a writer does not write what no reader takes.
func TestLimits(t *testing.T) {
	w, err := NewWriter(io.Discard, Bundles, header())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Bundle(1, bundle.Bulk, make([]byte, MaxRecord)); !errors.Is(err, ErrFull) {
		t.Errorf("a record too large: %v", err)
	}
	if _, err := NewWriter(io.Discard, Receipt, header()); err == nil {
		t.Error("a receipt for nobody")
	}
}

// FuzzRead: whatever is read, nothing is taken of it that was not signed, and
// no memory on the word of a length.
func FuzzRead(f *testing.F) {
	f.Add(parcelOf(f)[:200])
	f.Add(receiptOf(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := Read(bytes.NewReader(data), Reader{Verify: verify})
		if err == nil && (w.Size != int64(len(data)) || w.Header.Node.IsZero()) {
			t.Errorf("%+v of %d bytes", w, len(data))
		}
		if n := w.Bundles + w.Taken; n > len(data) {
			t.Errorf("%d in %d bytes", n, len(data))
		}
	})
}
