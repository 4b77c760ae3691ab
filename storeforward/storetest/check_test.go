package storetest

import (
	"reflect"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// The text of an item has every field of headers and entries, so that none is
// lost unnoticed: also those that are added later.
func TestTextIsWhole(t *testing.T) {
	plain := newPut(1, 10, in("a")).Header
	want := itemText(store.Item{Header: plain, Entry: plain.Entries[0]})
	h := reflect.TypeFor[store.Header]()
	for i := range h.NumField() {
		changed := *plain
		change(reflect.ValueOf(&changed).Elem().Field(i))
		if itemText(store.Item{Header: &changed, Entry: plain.Entries[0]}) == want {
			t.Errorf("header field %s is not in the text", h.Field(i).Name)
		}
	}
	e := reflect.TypeFor[store.Entry]()
	for i := range e.NumField() {
		changed := plain.Entries[0]
		change(reflect.ValueOf(&changed).Elem().Field(i))
		if itemText(store.Item{Header: plain, Entry: changed}) == want {
			t.Errorf("entry field %s is not in the text", e.Field(i).Name)
		}
	}
	if itemText(store.Item{Header: plain, Entry: plain.Entries[0], Damaged: true}) == want {
		t.Error("damage is not in the text")
	}
}

// change gives a field another value.
func change(v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *bundle.ID:
		x.Seq++
	case *[]store.Entry:
		*x = append(*x, in("z"))
	case *store.Queue:
		x.Name += "z"
	case *[]byte:
		*x = append(*x, 'z')
	default:
		switch {
		case v.CanInt():
			v.SetInt(v.Int() + 1)
		case v.CanUint():
			v.SetUint(v.Uint() + 1)
		case v.Kind() == reflect.Bool:
			v.SetBool(!v.Bool())
		case v.Kind() == reflect.String:
			v.SetString(v.String() + "z")
		default:
			v.SetZero()
		}
	}
}

// Model and text agree on what a store gives back.
func TestDiff(t *testing.T) {
	m := NewModel()
	queues := []store.Queue{queueOf("a"), queueOf("b")}
	m.Apply(puts(newPut(1, 10, in("a")), newPut(2, 10, in("a"), in("b"))))
	before, copied := m.Contents(queues), m.Clone()
	m.Apply(&store.Batch{Drops: []store.Drop{{Queue: queueOf("a"), Seq: 2}}})
	if copied.Contents(queues) != before || m.Contents(queues) == before || len(m.Entries()) != 2 || m.Next() != 3 {
		t.Errorf("the copy changed, or the model did not: %v", m.Entries())
	}
	if d := Diff(m.Contents(queues), before); d == "" || Diff(before, before) == "" {
		t.Errorf("no difference told")
	}
}
