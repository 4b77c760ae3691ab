package config

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/farhop/farhop/routing/addr"
)

const pushed = `
services:
- name: historian
  endpoints: [{node: earth-1, address: "127.0.0.1:5432"}]
  listen: [{node: luna-1, address: "127.0.0.1:15432"}, {node: mars-1, address: "127.0.0.1:15432"}]
routes:
- name: telemetry-up
  match: {topic: "plant/+/<telemetry>/#"}
  to: [earth]
  unreachable: store
  class: telemetry
  ttl: 72h
- {name: historian, match: {service: historian}, unreachable: drop}
quotas:
- name: per-device
  match: {client: "plc-<*>", topic: "plant/#", region: luna, class: bulk}
  each: client
  max_bytes: 10MiB
  max_messages: 1000
- {name: relays, match: {peer: "relay-*"}, each: peer, max_bytes: 1.5KiB}
- {name: all, match: {}, each: none, max_messages: 100000}
`

const canonical = `{"services":[{"name":"historian","endpoints":[{"node":"earth-1","address":"127.0.0.1:5432"}],` +
	`"listen":[{"node":"luna-1","address":"127.0.0.1:15432"},{"node":"mars-1","address":"127.0.0.1:15432"}]}],` +
	`"routes":[{"name":"telemetry-up","match":{"topic":"plant/+/<telemetry>/#"},"to":["earth"],"class":"telemetry","ttl":"72h"},` +
	`{"name":"historian","match":{"service":"historian"},"unreachable":"drop"}],` +
	`"quotas":[{"name":"per-device","match":{"client":"plc-<*>","topic":"plant/#","region":"luna","class":"bulk"},` +
	`"each":"client","max_bytes":"10MiB","max_messages":1000},` +
	`{"name":"relays","match":{"peer":"relay-*"},"each":"peer","max_bytes":"1536B"},` +
	`{"name":"all","max_messages":100000}]}`

func TestCanonical(t *testing.T) {
	r, err := ParseResources("r.yaml", []byte(pushed))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Canonical()
	if err != nil || string(got) != canonical {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, canonical)
	}
	again, err := ParseCanonical(got)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, again, r)
	}
	if fromYAML, err := ParseResources("rendered", RenderResources(r)); err != nil || !reflect.DeepEqual(fromYAML, r) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, fromYAML, r)
	}
	if none, err := ParseCanonical([]byte("{}")); err != nil || !reflect.DeepEqual(none, Resources{}) {
		t.Errorf("no resources: %+v, %v", none, err)
	}
	if fromYAML, err := ParseResources("rendered", []byte("services:\nroutes: []\n")); err != nil || !reflect.DeepEqual(fromYAML, Resources{}) {
		t.Errorf("no resources: %+v, %v", fromYAML, err)
	}
}

func TestParseCanonicalRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		data  string
		shape bool // not canonical, where otherwise it does not decode or is not valid
	}{
		"space":           {canonical + " ", true},
		"space inside":    {strings.Replace(canonical, `:[`, `: [`, 1), true},
		"default spelled": {strings.Replace(canonical, `"class"`, `"unreachable":"store","class"`, 1), true},
		"other case":      {strings.Replace(canonical, `"services"`, `"Services"`, 1), true},
		"set twice":       {strings.Replace(canonical, `"class":"telemetry"`, `"class":"bulk","class":"telemetry"`, 1), true},
		"other unit":      {strings.Replace(canonical, `"72h"`, `"3d"`, 1), true},
		"escaped":         {strings.Replace(canonical, `<`, `\u003c`, 1), true},
		"second value":    {canonical + canonical, true},
		"empty list":      {`{"routes":[]}`, true},
		"null":            {`null`, true},
		"unknown key":     {`{"service":[]}`, false},
		"empty match":     {strings.Replace(canonical, `"all"`, `"all","match":{}`, 1), true},
		"default each":    {strings.Replace(canonical, `"max_messages":100000`, `"each":"none","max_messages":100000`, 1), true},
		"no limit":        {strings.Replace(canonical, `,"max_messages":100000`, ``, 1), false},
		"no unit":         {strings.Replace(canonical, `"72h"`, `"72"`, 1), false},
		"bad name":        {strings.Replace(canonical, `luna-1`, `LUNA`, 1), false},
		"no node":         {strings.Replace(canonical, `"node":"luna-1",`, ``, 1), false},
		"cut":             {canonical[:len(canonical)-1], false},
		"nothing":         {"", false},
		"too large":       {strings.Repeat(" ", MaxFile+1), false},
	} {
		r, err := ParseCanonical([]byte(c.data))
		if err == nil || errors.Is(err, ErrNotCanonical) != c.shape || !reflect.DeepEqual(r, Resources{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestForNode(t *testing.T) {
	c := parse(t, full)
	r := c.ForNode(c.Node.Name)
	want := []Service{{
		Name:      "historian",
		Endpoints: []Endpoint{{addr.MustNode("earth-1"), "127.0.0.1:5432"}, {addr.MustNode("luna-1"), "db:5432"}},
		Listen:    []Endpoint{{addr.MustNode("luna-1"), "127.0.0.1:15432"}},
	}}
	if !reflect.DeepEqual(r.Services, want) || len(r.Routes) != 2 || len(r.Quotas) != 3 {
		t.Errorf("got %+v", r)
	}
	if c.Services[0].Endpoints[1].Node != (addr.Node{}) {
		t.Error("the original was changed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(pushed))
	f.Add([]byte("node: {name: a, region: b}\n---\nx"))
	f.Add([]byte("peers: [&a {<<: *a}, !!map {}, ? {a: b} : c]"))
	f.Add([]byte("a: &a [*a]\n? - x\n: |\n  y\n"))
	f.Add(Render(Default()))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Parse("f.yaml", data); err == nil {
			again, err := Parse("rendered", Render(c))
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("%v\ngot  %+v\nwant %+v", err, again, c)
			}
		} else if len(err.Error()) > 100*(maxFaults+1)*10 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
		r, err := ParseResources("f.yaml", data)
		if err != nil {
			return
		}
		b, err := r.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseCanonical(b)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, again, r)
		}
	})
}

func FuzzParseCanonical(f *testing.F) {
	f.Add([]byte(canonical))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseCanonical(data)
		if err != nil {
			return
		}
		if b, err := r.Canonical(); err != nil || !bytes.Equal(b, data) {
			t.Fatalf("%v\ngot  %s\nwant %s", err, b, data)
		}
		if again, err := ParseResources("rendered", RenderResources(r)); err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, again, r)
		}
	})
}
