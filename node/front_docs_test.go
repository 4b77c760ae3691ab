package node

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/config"
)

// TestFrontDocs reads the examples of the documents as parts of a farhop.yaml.
func TestFrontDocs(t *testing.T) {
	for _, d := range []struct {
		file, fence string
		least       int
		whole       func(part string) string
	}{
		{"listeners.md", "yaml", 6, func(part string) string { return "mqtt:\n  users: users.txt\n  listeners:\n" + part }},
		{"bridge.md", "yaml", 4, func(part string) string { return "mqtt:\n  bridges:\n  - name: example\n" + indent(part, "    ") }},
		{"auth.md", "yaml config", 1, func(part string) string {
			own, others, _ := strings.Cut(part, "mtls:")
			return "mqtt:\n  listeners: [{url: \"tls://:8883\", cert: a, key: b, client_ca: c}]\n" +
				indent(own, "  ") + "  auth:\n" + indent("mtls:"+others, "    ")
		}},
	} {
		doc, err := os.ReadFile("../docs/" + d.file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile("(?ms)^```"+d.fence+"\n(.*?)^```$").FindAllSubmatch(doc, -1)
		if len(found) < d.least {
			t.Errorf("%s has %d examples, want %d or more", d.file, len(found), d.least)
		}
		for _, m := range found {
			text := string(m[1])
			if !strings.HasPrefix(text, "mqtt:") {
				text = d.whole(text)
			}
			c, err := config.Parse(d.file, []byte("node: {name: a, region: b}\n"+text), checkFront)
			if err != nil || len(c.MQTT.Listeners)+len(c.MQTT.Bridges) == 0 {
				t.Errorf("%v in\n%s", err, text)
			}
		}
	}
}

// indent moves all lines to the right.
func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+by) + "\n"
}
