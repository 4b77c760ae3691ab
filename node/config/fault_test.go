package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestFaultTexts holds the wording of every fault in testdata/faults.txt.
func TestFaultTexts(t *testing.T) {
	datadriven.RunTest(t, "testdata/faults.txt", func(t *testing.T, d *datadriven.TestData) string {
		var err error
		switch d.Cmd {
		case "parse":
			_, err = Parse(FileName, []byte(d.Input))
		case "resources":
			_, err = ParseResources("routes.yaml", []byte(d.Input))
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		if err == nil {
			return "ok"
		}
		return err.Error()
	})
}

func TestFaultsAreTypedAndBounded(t *testing.T) {
	_, err := Parse("x.yaml", []byte("node: {name: a, region: b}\nlog: {level: loud}\n"))
	var f Fault
	if !errors.As(err, &f) || f.File != "x.yaml" || f.Line != 2 || f.Field != "log.level" {
		t.Errorf("got %#v", err)
	}
	var b strings.Builder
	for i := range 3 * maxFaults {
		fmt.Fprintf(&b, "key-%d: 1\n", i)
	}
	_, err = Parse("x.yaml", []byte(b.String()))
	if lines := strings.Split(err.Error(), "\n"); len(lines) != maxFaults+1 || !strings.HasSuffix(err.Error(), " more") {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

func TestHostileInputIsCutShort(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for name, data := range map[string]string{
		"key":       long + ": 1",
		"value":     "log: {level: " + long + "}",
		"twice":     long + ": 1\n" + long + ": 1",
		"host":      "mqtt: {listen: \"" + long + ":1\"}",
		"size":      "store: {max_bytes: " + strings.Repeat("9", 10_000) + "GiB}",
		"duration":  "delivery: {ttl: " + strings.Repeat("9", 10_000) + "}",
		"tag":       "log: {level: !" + long + " info}",
		"too large": strings.Repeat("# x\n", MaxFile/4+1),
		"list":      "peers: [" + strings.Repeat("{},", 2*maxList) + "]",
		"deep":      strings.Repeat("[", 20_000),
		"client":    "quotas: [{name: a, max_messages: 1, match: {client: \"" + long + "*\"}}]",
		"engine":    "store: {engine: " + long + "}",
		"topic":     "routes: [{name: a, match: {topic: \"" + long + "#\"}}]",
	} {
		_, err := Parse("x.yaml", []byte(data))
		if err == nil || len(err.Error()) > 2000 {
			t.Errorf("%s: an error of %d bytes: %.3000v", name, len(fmt.Sprint(err)), err)
		}
	}
}

func TestClosest(t *testing.T) {
	words := []string{"listen", "anonymous", "users", "max_packet"}
	for s, want := range map[string]string{
		"lisen": "listen", "Listen": "listen", "litsen": "listen", "user": "users", "maxpacket": "max_packet",
		"x": "", "port": "", "anon": "",
	} {
		if got := closest(s, words); got != want {
			t.Errorf("closest(%q) = %q, want %q", s, got, want)
		}
	}
}
