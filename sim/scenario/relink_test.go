package scenario

import (
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

const pair = `name: pair
duration: 10m
nodes: [{name: luna, region: luna}, {name: relay, region: leo}]
links:
- {between: [luna, relay], delay: 1s, cuts: [{at: 1m, for: 1m}]}
`

// relinked puts the links of a file in the pair.
func relinked(t *testing.T, file string) (*World, error) {
	t.Helper()
	w, err := Parse("pair", []byte(pair))
	if err != nil {
		t.Fatal(err)
	}
	links, err := desc.ParseLinks("f.yaml", []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	return w, w.Relink(links)
}

func TestRelink(t *testing.T) {
	w, err := relinked(t, `links:
- between: [relay, luna]
  delay: 2s
  rate: 1Mbit
  contacts: {every: 1m, for: 30s}
  return: {rate: 256kbit, loss: 5%, burst: 4}
  events:
  - {at: 1m, for: 5s, every: 4m, do: half-open, direction: up}
  - {at: 30s, for: 1s, do: cut}
`)
	if err != nil {
		t.Fatal(err)
	}
	l := w.Links[0]
	ways := l.Ways() // the file has the other end first
	if l.Between != [2]string{"luna", "relay"} || ways[0].Rate != 256_000 || ways[1].Rate != 1_000_000 || ways[0].Burst != 4 || ways[1].Loss != 0 || len(l.Cuts) != 0 {
		t.Errorf("got %+v, ways %+v", l, ways)
	}
	if l.Contacts == nil || time.Duration(l.Contacts.For) != 30*time.Second {
		t.Errorf("contacts %+v", l.Contacts)
	}
	if len(w.Faults) != 4 || w.Faults[0].Way != Back || w.Faults[1].At != Duration(5*time.Minute) || w.Faults[3].Way != Both {
		t.Errorf("faults %v", w.Faults)
	}
}

func TestRelinkRefuses(t *testing.T) {
	for file, want := range map[string]string{
		"links:\n- {between: [luna, mars]}":                                                               "f.yaml:2: links[0].between: the world pair has no link between luna and mars",
		"links:\n- between: [luna, relay]\n  queue: 1MiB":                                                 "f.yaml:3: links[0].queue: ",
		"links:\n- between: [luna, relay]\n  return:\n    reorder: 1%":                                    "f.yaml:4: links[0].return.reorder: ",
		"links:\n- between: [luna, relay]\n  delays: [{at: 0s, delay: 1s}]":                               "f.yaml:3: links[0].delays: ",
		"links:\n- between: [luna, relay]\n  events:\n  - {at: 1s, do: blackhole}":                        "f.yaml:4: links[0].events[0].do: ",
		"links:\n- between: [luna, relay]\n  events:\n  - {at: 1s, do: cut}":                              "f.yaml:4: links[0].events[0].do: a cut in a virtual world needs its length",
		"links:\n- between: [luna, relay]\n  contacts: {every: 1h, for: 1m, start: 2030-01-01T00:00:00Z}": "f.yaml:3: links[0].contacts: ",
		"links:\n- between: [luna, relay]\n  return:\n    contacts: {every: 1h, for: 1m}":                 "f.yaml:4: links[0].return.contacts: ",
	} {
		w, err := relinked(t, file)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", file, err, want)
		}
		if len(w.Links[0].Cuts) != 1 || time.Duration(w.Links[0].Delay) != time.Second {
			t.Errorf("%q: the world was changed to %+v", file, w.Links[0])
		}
	}
}
