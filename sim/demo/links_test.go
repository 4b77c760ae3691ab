package demo

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// read reads a file of links for a demo.
func read(t *testing.T, text string) Config {
	t.Helper()
	n, err := desc.ParseLinks("f.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Program: "farhop", Duration: MinDuration, Links: n}
}

func TestOwnLinks(t *testing.T) {
	l, err := Config{Duration: MinDuration}.links()
	if err != nil {
		t.Fatal(err)
	}
	p := props(&l.moon.Up, &l.moon.Down, nil)
	if l.moon.Between != [2]string{luna, relay} || l.ground.Between != [2]string{earth, relay} || time.Duration(p.OWLT) != 1280*time.Millisecond ||
		p.Rate != 10_000_000 || p.Loss != 1e7 || p.ReturnRate != 0 || least(&l.ground) != 15*time.Millisecond {
		t.Errorf("got %+v, and the nodes are told %+v", l, p)
	}
}

// TestDescribed takes the link that all who read descriptions play in their
// tests: the emulator plays it, both nodes are told what it is from their end,
// and the story follows its contacts.
func TestDescribed(t *testing.T) {
	data, err := os.ReadFile("../emulator/desc/testdata/trouble.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStage(read(t, string(data)), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	at := s.plan.contacts(start)
	if s.plan.gap != 2*time.Second || s.plan.back != 4*time.Second || !at.Open(start.Add(time.Second)) || at.Open(start.Add(3*time.Second)) || !at.Open(start.Add(5*time.Second)) {
		t.Errorf("plan %+v, contacts %v", s.plan, at)
	}
	plays(t, anchored(s.links.moon, at))
	far, near := props(&s.links.moon.Up, &s.links.moon.Down, nil), props(&s.links.moon.Down, &s.links.moon.Up, nil)
	if far.Loss != 1e8 || far.Burst != 5 || far.ReturnRate != 256_000 || near.Rate != 256_000 || near.ReturnRate != 2_000_000 || near.Loss != 1e7 {
		t.Errorf("luna is told %+v, the relay %+v", far, near)
	}
	if least(&s.links.ground) != 15*time.Millisecond {
		t.Error("the other link is not as built in")
	}
}

// plays sends datagrams over an emulated link of a description, within its
// first contact and in the pause behind it.
func plays(t *testing.T, n desc.Named) {
	t.Helper()
	to, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	l, err := open(n.Link, to.LocalAddr().String(), 7)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	c, err := net.Dial("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for l.Stats().Up.Dropped.Loss < 10 || l.Stats().Up.Dropped.Closed < 10 { // a link without one of them hangs here
		if _, err := c.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if st := l.Stats().Up; st.Dropped.Loss*2 > st.Offered-st.Dropped.Closed {
		t.Errorf("%d of %d datagrams were lost, want about a tenth", st.Dropped.Loss, st.Offered-st.Dropped.Closed)
	}
}

func TestUnplayedLinks(t *testing.T) {
	for text, want := range map[string]string{
		"links:\n- {between: [luna, mars]}":                                                              "f.yaml:2: links[0].between: the demo has links between",
		"links:\n- between: [luna, relay]\n  rate: 1Mbit\n  seed: 3":                                     "f.yaml:4: links[0].seed: ",
		"links:\n- between: [luna, relay]\n  delay: 1s":                                                  "f.yaml:2: links[0].rate: the demo shows salvo",
		"links:\n- between: [relay, luna]\n  rate: 1Mbit\n  delay: 9s":                                   "f.yaml:4: links[0].delay: light takes 9s",
		"links:\n- between: [relay, luna]\n  rate: 1Mbit\n  return:\n    mtu: 576":                       "f.yaml:5: links[0].return.mtu: ",
		"links:\n- between: [luna, relay]\n  rate: 1Mbit\n  loss: 60%":                                   "f.yaml:4: links[0].loss: more than 50 %",
		"links:\n- between: [luna, relay]\n  rate: 1Mbit\n  contacts: {every: 1h, for: 1m}":              "f.yaml:4: links[0].contacts: a first contact of 1m0s",
		"links:\n- between: [luna, relay]\n  rate: 1Mbit\n  return:\n    contacts: {every: 7s, for: 3s}": "f.yaml:5: links[0].return.contacts: ",
		"links:\n- between: [earth, relay]\n  contacts: {every: 7s, for: 3s}":                            "f.yaml:3: links[0].contacts: the nodes on the ground",
	} {
		if err := read(t, text).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
