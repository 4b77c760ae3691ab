package near

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRun measures for a moment, without peers that are not in this program. A
// client fails when a byte is missing or differs. How fast is not judged here:
// other tests run beside this one.
func TestRun(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, "1")
	dir := t.TempDir()
	r, err := Run(t.Context(), Config{Farhop: program, Part: []string{program, "part"}, Dir: dir, Time: 50 * time.Millisecond, Rounds: 2}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	var names []string
	for _, l := range r.Links {
		names = append(names, l.Layer)
		if l.RTT.P50 <= 0 || l.RTT.P99 < l.RTT.P50 || l.Goodput <= 0 {
			t.Errorf("%+v", l)
		}
	}
	for _, p := range r.Peers {
		names = append(names, p.Name)
		if p.RTT.P50 <= 0 || p.Goodput <= 0 || p.Skipped != "" {
			t.Errorf("%+v", p)
		}
	}
	if want := []string{layerTLS, layerQUIC, nameDirect, nameBare}; !slices.Equal(names, want) {
		t.Errorf("measured %q, want %q", names, want)
	}
	if r.Ratios.QUICGoodput <= 0 || r.Ratios.QUICOfBare <= 0 || r.Ratios.TLSGoodput != 0 || r.Ratios.OfNebula != 0 {
		t.Errorf("%+v", r.Ratios)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("the run left %d files: %v", len(left), err)
	}
}

// TestServer checks that the server counts what it swallows, so that a client
// notices what is missing.
func TestServer(t *testing.T) {
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(far) }()
	blocks := bytes.Repeat([]byte{7}, 3*block)
	blocks[0], blocks[block], blocks[2*block] = more, more, last
	if _, err := near.Write([]byte{saySink}); err != nil {
		t.Fatal(err)
	}
	var ready [1]byte
	if _, err := io.ReadFull(near, ready[:]); err != nil || ready[0] != saySink {
		t.Fatalf("%q, %v", ready, err)
	}
	if _, err := near.Write(blocks); err != nil {
		t.Fatal(err)
	}
	var end [tally]byte
	if _, err := io.ReadFull(near, end[:]); err != nil {
		t.Fatal(err)
	}
	want := crc32.Checksum(blocks, crc32.MakeTable(crc32.Castagnoli))
	if n, crc := binary.BigEndian.Uint64(end[:]), binary.BigEndian.Uint32(end[8:]); n != 3*block || crc != want {
		t.Errorf("%d bytes, %08x; want %d, %08x", n, crc, 3*block, want)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestPart(t *testing.T) {
	for _, words := range []string{"", "server", "trips 127.0.0.1:1", "bulk 127.0.0.1:1 soon", "enter a b", "pair 1"} {
		if err := Part(context.Background(), strings.Fields(words), io.Discard); err == nil {
			t.Errorf("%q: no error", words)
		}
	}
}

func TestConfig(t *testing.T) {
	good := Config{Farhop: "farhop", Part: []string{"farhop"}, Dir: "d", Time: time.Second, Rounds: 1, Layers: []string{layerQUIC}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no program":  func(c *Config) { c.Farhop = "" },
		"no parts":    func(c *Config) { c.Part = nil },
		"no time":     func(c *Config) { c.Time = 0 },
		"an hour":     func(c *Config) { c.Time = time.Hour },
		"no rounds":   func(c *Config) { c.Rounds = 0 },
		"other layer": func(c *Config) { c.Layers = []string{"salvo"} },
	} {
		c := good
		if spoil(&c); c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRatio: each round is compared with itself, and medians hold against one
// that went wrong.
func TestRatio(t *testing.T) {
	of := &pair{rounds: []Figures{{Goodput: 20}, {Goodput: 300}, {Goodput: 12}}}
	by := &pair{rounds: []Figures{{Goodput: 10}, {Goodput: 100}, {Goodput: 4}}}
	if got := ratio(of, by, goodput); got != 3 {
		t.Errorf("ratio %v, want 3", got)
	}
	if got := ratio(of, nil, goodput) + ratio(of, &pair{}, goodput); got != 0 {
		t.Errorf("ratio by nobody %v, want 0", got)
	}
	if got := of.median(goodput); got != 20 {
		t.Errorf("median %v, want 20", got)
	}
	if got := median([]float64{4, 1}); got != 2.5 {
		t.Errorf("median of two %v, want 2.5", got)
	}
}
