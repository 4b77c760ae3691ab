package node

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/link"
)

// TestLinkWordsAgree: what a file may say is what links know.
func TestLinkWordsAgree(t *testing.T) {
	var profiles, layers []string
	for _, p := range link.Profiles() {
		profiles = append(profiles, string(p))
	}
	for _, l := range link.Layers() {
		layers = append(layers, string(l))
	}
	if !slices.Equal(profiles, config.LinkProfiles()) || !slices.Equal(layers, config.LinkLayers()) {
		t.Errorf("links have %q and %q, the configuration %q and %q", profiles, layers, config.LinkProfiles(), config.LinkLayers())
	}
}

const linkFile = "node: {name: a, region: b}\n"

// TestLinkPropertiesReachTheLink: every key arrives, and what the file may say
// at most is taken.
func TestLinkPropertiesReachTheLink(t *testing.T) {
	c, err := config.Parse("x.yaml", []byte(linkFile+`peers:
- {address: "127.0.0.1:1", link: sat, cost: 1000000, classes: [control, alarm], profile: scheduled, layer: salvo, owlt: 24h, rate: 9000000Gbit, return_rate: 1bit, loss: 50%, burst: 1000, mtu: 1480, contacts: {start: 2026-01-01T00:00:00Z, every: 2h, for: 40m}}
- {address: "127.0.0.1:2", profile: narrow, layer: salvo, rate: 1bit, loss: 0.0000001%, burst: 1, mtu: 256}
`))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range c.Peers {
		got := linkOf(p.Uplink, p.LinkProps)
		if err := got.Validate(); err != nil {
			t.Errorf("peers[%d]: %v", i, err)
		}
		if i > 0 {
			continue
		}
		if got.Loss != 0.5 || got.Burst != 1000 || got.MTU != 1480 || got.ReturnRate != 1 {
			t.Errorf("got %+v", got)
		}
		for f, v := range reflect.ValueOf(got).Fields() {
			if v.IsZero() && f.Name != "MaxGap" { // it follows from the contacts
				t.Errorf("%s is lost", f.Name)
			}
		}
	}
}

// TestLinkDocs reads the examples of docs/links.md and compares its keys with
// those of the configuration.
func TestLinkDocs(t *testing.T) {
	doc, err := os.ReadFile("../docs/links.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(doc, -1)
	if len(examples) < 4 {
		t.Errorf("%d examples, want 4 or more", len(examples))
	}
	for _, m := range examples {
		c, err := config.Parse("links.md", []byte(linkFile+string(m[1])))
		if err != nil || len(c.Peers)+len(c.Links) == 0 {
			t.Errorf("%v in\n%s", err, m[1])
		}
		for _, p := range c.Peers {
			if err := properties(p.LinkProps).Validate(); err != nil {
				t.Errorf("%v in\n%s", err, m[1])
			}
		}
	}
	_, keys, _ := strings.Cut(string(doc), "## Keys")
	keys, _, _ = strings.Cut(keys, "## ")
	var said, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` ").FindAllStringSubmatch(keys, -1) {
		said = append(said, m[1])
	}
	for f := range reflect.TypeFor[config.LinkProps]().Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		want = append(want, key)
	}
	if !slices.Equal(said, want) {
		t.Errorf("docs/links.md has the keys %q, want %q", said, want)
	}
}
