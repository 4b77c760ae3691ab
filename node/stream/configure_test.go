package stream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/wire"
)

func nextFrame(r io.Reader) (wire.Frame, error) {
	typ, body, err := wire.ReadFrame(bufio.NewReader(r), maxReply, nil)
	if err != nil {
		return nil, err
	}
	return wire.Parse(typ, body)
}

func TestConfigureIsAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", anywhere)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w := newWorld(t, nodeC)
	a := w.add("a", nil, in())
	before, free := a.Addrs("db"), deadPort(t)
	err = a.Configure(t.Context(), []Service{
		{Name: "web", Listen: []string{free}},
		{Name: "ssh", Listen: []string{taken.Addr().String()}},
	})
	if err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || !strings.Contains(err.Error(), "ssh") {
		t.Errorf("error %v, want one that names the service and %s", err, taken.Addr())
	}
	if after := a.Addrs("db"); !slices.Equal(before, after) {
		t.Errorf("listeners of db %v, before %v", after, before)
	}
	if ln, err := net.Listen("tcp", free); err != nil {
		t.Errorf("a listener of the refused configuration stayed: %v", err)
	} else {
		ln.Close()
	}
}

func TestConfigureAtRunTime(t *testing.T) {
	w := newWorld(t, nodeC)
	w.add("c", nil, out(endpoint(t, echo)))
	a := w.add("a", nil, in())
	c := dial(t, a, "db")
	roundTrip := func(c net.Conn) error {
		if _, err := fmt.Fprint(c, "x"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := roundTrip(c); err != nil {
		t.Fatal(err)
	}
	changed := in()
	changed.MaxConns = 7
	if err := a.Configure(t.Context(), []Service{changed, {Name: "web", Listen: []string{anywhere}}}); err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(c); err != nil {
		t.Errorf("a change of the service cut its connection: %v", err)
	}
	old, web := a.Addrs("db"), a.Addrs("web")
	if len(web) != 1 {
		t.Fatalf("web listens on %v", web)
	}
	if err := a.Configure(t.Context(), []Service{{Name: "web", Listen: []string{anywhere}}}); err != nil {
		t.Fatal(err)
	}
	waitFor(func() bool { return roundTrip(c) != nil }) // it loses its connection
	if d, err := net.Dial("tcp", old[0]); err == nil {
		d.Close()
		t.Error("the removed service still listens")
	}
	if got := a.Addrs("web"); !slices.Equal(got, web) {
		t.Errorf("web moved from %v to %v", web, got)
	}
}

func TestListenAddressMovesToAnotherService(t *testing.T) {
	w := newWorld(t, nodeC)
	w.add("c", nil, out(endpoint(t, echo)))
	at := deadPort(t)
	a := w.add("a", nil, Service{Name: "old", Listen: []string{at}})
	if err := a.Configure(t.Context(), []Service{{Name: "db", Listen: []string{at}}}); err != nil {
		t.Fatal(err)
	}
	if got := a.Addrs("db"); !slices.Equal(got, []string{at}) {
		t.Errorf("db listens on %v, want %s", got, at)
	}
	if got, err := exchange(dial(t, a, "db"), []byte("hi")); err != nil || string(got) != "hi" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestValidateServices(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		services   []Service
	}{
		{"no name", "name must have", []Service{{}}},
		{"long name", "name must have", []Service{{Name: strings.Repeat("x", 64)}}},
		{"twice", "used twice", []Service{{Name: "a"}, {Name: "a"}}},
		{"address", "not HOST:PORT", []Service{{Name: "a", Listen: []string{"1234"}}}},
		{"endpoint", "not HOST:PORT", []Service{{Name: "a", Endpoints: []string{"x"}}}},
		{"same port", "is used by a too", []Service{{Name: "a", Listen: []string{":9"}}, {Name: "b", Listen: []string{":9"}}}},
		{"negative", "negative", []Service{{Name: "a", MaxConns: -1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := validate(tc.services); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	ups := make(chan bool, 8)
	w := newWorld(t, nodeC)
	at := deadPort(t)
	s := w.add("c", func(c *Config) { c.Health = func(_ string, up bool) { ups <- up } },
		Service{Name: "db", Endpoints: []string{at}, ProbeEvery: 1e6})
	if up := <-ups; up {
		t.Fatal("a dead endpoint is reported up")
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if up := <-ups; !up {
		t.Fatal("a live endpoint is reported down")
	}
	waitFor(func() bool { st, _ := s.States(); return st[0].Up && st[0].Known })
	ln.Close()
	if up := <-ups; up {
		t.Fatal("a closed endpoint is reported up")
	}
}
