package desc

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseLinks(t *testing.T) {
	const text = `# two links
links:
- between: [luna, relay]
  delay: 1.28s
  loss: 1%
  return:
    rate: 256kbit
  events:
  - {at: 10s, for: 5s, do: half-open, direction: down}
- {between: [relay, earth], delay: 15ms}
`
	links, err := ParseLinks("two.yaml", []byte(text), nil)
	if err != nil || len(links) != 2 {
		t.Fatalf("%d links, %v", len(links), err)
	}
	l := links[0]
	if l.Between != [2]string{"luna", "relay"} || l.Up.Delay != 1280*time.Millisecond || l.Down.Rate != 256_000 || l.Up.Rate != 0 || l.Down.Loss != 0.01 {
		t.Errorf("got %+v", l)
	}
	back := l.Turned()
	if back.Between != [2]string{"relay", "luna"} || back.Up.Rate != 256_000 || back.Events[0].Direction != Up || l.Events[0].Direction != Down {
		t.Errorf("turned: %+v, and then the first %+v", back, l.Events)
	}
	if !l.Gives("loss") || !l.Gives("return.rate") || l.Gives("rate") || links[1].Gives("loss") {
		t.Error("it is not known what is given")
	}
	err = l.Refuse(map[string]string{"rate": "no rates here", "events": "no events here", "mtu": "no packets here"})
	if err == nil || err.Error() != "two.yaml:7: links[0].return.rate: no rates here\ntwo.yaml:8: links[0].events: no events here" {
		t.Errorf("refused: %v", err)
	}
	if err := links[1].Fault("rate", errors.New("is needed")); err.Error() != "two.yaml:10: links[1].rate: is needed" {
		t.Errorf("a key that is not there: %v", err)
	}
	if !Several([]byte(text)) || Several([]byte("delay: 1s")) || Several([]byte("- a")) {
		t.Error("the kinds of files are mistaken for each other")
	}
}

func TestParseLinksFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "f: it is empty",
		"delay: 1s":                            "f:1: delay: this file is of links between names",
		"links: 3":                             "f:1: links: not a list of 1 to 1000",
		"links: []":                            "f:1: links: not a list",
		"links:\n- delay: 1s":                  "f:2: links[0].between: is missing",
		"links:\n- {between: [a], delay: 1s}":  "f:2: links[0].between: want two names",
		"links:\n- {between: [a, a]}":          "f:2: links[0].between: want two names",
		"links:\n- between: [a, b]\n  loss: 3": "f:3: links[0].loss: ",
		"links:\n- between: [a, b]\n  los: 3%": "f:3: links[0].los: there is no such key",
		"links:\n- between: [a, b]\n  between: [a, c]":              "f:3: links[0].between: it is given twice",
		"links:\n- {between: [a, b]}\n- between: [b, a]":            "f:3: links[1].between: links[0] joins the same two",
		"links:\n- between: [a, b]\n  events:\n  - {at: 1s, do: x}": "f:4: links[0].events[0]: do: ",
		"links:\n- 7":                  "f:2: links[0]: ",
		"links: []\n---\na: 1":         "f: a second YAML document",
		"links: [a, b":                 "f: yaml: ",
		strings.Repeat(" ", MaxFile+1): "f: more than",
	} {
		if _, err := ParseLinks("f", []byte(text), nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		}
	}
}
