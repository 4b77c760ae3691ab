package wire

import (
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
)

// TestDocument checks the examples and the tables of numbers in docs/wire.md.
func TestDocument(t *testing.T) {
	data, err := os.ReadFile("../../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	m := sampleMessage()
	want := map[string][]byte{
		"ack":     Append(nil, samples()["ack"]),
		"hello":   Append(nil, samples()["hello"]),
		"bundle":  sampleBundle(),
		"message": m.Append(nil),
	}
	blocks := regexp.MustCompile("(?s)```hex ([a-z]+)\n(.*?)```").FindAllStringSubmatch(doc, -1)
	if len(blocks) != len(want) {
		t.Errorf("%d examples, want %d", len(blocks), len(want))
	}
	comment := regexp.MustCompile(`#.*|\s`)
	for _, b := range blocks {
		var got strings.Builder
		for line := range strings.Lines(b[2]) {
			got.WriteString(comment.ReplaceAllString(line, ""))
		}
		if w := hex.EncodeToString(want[b[1]]); got.String() != w {
			t.Errorf("example %s is\n%s, want\n%s", b[1], got.String(), w)
		}
	}
	for r := range bundle.Reason(bundle.NumReasons) {
		if s := fmt.Sprintf("| %d %s |", uint8(r), r); !strings.Contains(doc, s) {
			t.Errorf("no reason %q", s)
		}
	}
	for c := range bundle.Class(bundle.NumClasses) {
		if s := fmt.Sprintf("%d %s", uint8(c), c); !strings.Contains(doc, s) {
			t.Errorf("no class %q", s)
		}
	}
}
