package scenario

import (
	"strings"
	"testing"
)

func TestFaultsAreNamed(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty"},
		{"unknown key", "duration: 1h\nnodes: [{name: a, region: a, colour: red}]", "colour"},
		{"second document", "duration: 1h\nnodes: [{name: a, region: a}]\n---\nname: b", "second YAML document"},
		{"bare number", "duration: 60", "write a number with its unit"},
		{"unknown node", "duration: 1h\nnodes: [{name: a, region: a}]\nlinks: [{between: [a, b], delay: 1s}]", `no node is called "b"`},
		{"whole loss", "duration: 1h\nnodes: [{name: a, region: a}, {name: b, region: b}]\nlinks: [{between: [a, b], loss: 100%}]", "less than 100%"},
		{"bad filter", "duration: 1h\nnodes: [{name: a, region: a}]\nsubscribers: [{node: a, client: c, filter: 'a/#/b'}]", "subscribers[0]"},
		{"no interval", "duration: 1h\nnodes: [{name: a, region: a}]\npublishers: [{node: a, client: c, topic: x}]", "every: 1s"},
		{"fault of nobody", "duration: 1h\nnodes: [{name: a, region: a}]\nfaults: [{kind: crash, node: b, at: 1m}]", `no node is called "b"`},
		{"fault of a link", "duration: 1h\nnodes: [{name: a, region: a}]\nfaults: [{kind: cut, link: [a, b], at: 1m}]", "no link is between a and b"},
		{"unknown fault", "duration: 1h\nnodes: [{name: a, region: a}]\nfaults: [{kind: flood, at: 1m}]", "want one of"},
		{"unknown trigger", "duration: 1h\nnodes: [{name: a, region: a}]\nfaults: [{kind: crash, node: a, at: 1m, on: monday}]", "release"},
		{"route to nowhere", "duration: 1h\nnodes: [{name: a, region: a}]\nroutes: [{name: r, topic: x, to: [A]}]", "routes"},
	} {
		_, err := Parse("world.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "world.yaml") {
			t.Errorf("%s: %v, want a fault with %q", c.name, err, c.want)
		}
	}
}

func TestUnits(t *testing.T) {
	w, err := Parse("world.yaml", []byte(`{duration: 1.5h, nodes: [{name: a, region: a}, {name: b, region: b}],
		links: [{between: [a, b], delay: 1.28s, loss: 1%, rate: 9600bit, contacts: {every: 2h, for: 40m}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l := w.Links[0]
	if l.Loss != 0.01 || l.Rate != 9600 || l.Contacts.For.String() != "40m0s" {
		t.Errorf("read as %+v", l)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("{duration: 1h, nodes: [{name: a, region: a}], random: {crashes: 3}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := Parse("world.yaml", b); err == nil && w.Duration <= 0 {
			t.Errorf("accepted a world of %v", w.Duration)
		}
	})
}

// A world of chaos can be written down, read back, and is the same.
func TestChaosIsWrittenAndRead(t *testing.T) {
	for seed := range uint64(30) {
		text, err := Chaos(seed).Text()
		if err != nil {
			t.Fatal(err)
		}
		w, err := Parse("chaos.yaml", text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if again, err := w.Text(); err != nil || string(again) != string(text) {
			t.Errorf("seed %d: read back as\n%s\nwritten as\n%s", seed, again, text)
		}
	}
}
