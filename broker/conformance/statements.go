package conformance

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed statements.json
var statementFile []byte

// Statement is a numbered normative statement of a standard.
type Statement struct {
	Clause string // "MQTT5 [MQTT-3.1.2-3]"
	Why    string // why no case can show it, else ""
}

// Statements lists those of both standards, in their order: the numbers
// alone, and why no case shows some of them.
func Statements() ([]Statement, error) {
	var f struct {
		Why       map[string]string
		Standards []struct {
			Name    string
			All     []string
			Without map[string]string
		}
	}
	if err := json.Unmarshal(statementFile, &f); err != nil {
		return nil, fmt.Errorf("statements.json: %w", err)
	}
	var out []Statement
	for _, s := range f.Standards {
		for _, n := range s.All {
			out = append(out, Statement{s.Name + " [MQTT-" + n + "]", f.Why[s.Without[n]]})
		}
	}
	return out, nil
}

// Coverage is a table in Markdown: each statement with the cases that show it,
// or why none can.
func Coverage(statements []Statement, cases []Case) string {
	const most = 3
	shown := map[string][]string{}
	for _, c := range cases {
		name := c.Name[:len(c.Name)-len(" v5")]
		name, _, _ = strings.Cut(name, ": ")
		for _, clause := range c.Clauses {
			if !slices.Contains(shown[clause], name) {
				shown[clause] = append(shown[clause], name)
			}
		}
	}
	var b strings.Builder
	b.WriteString("| statement | cases |\n|---|---|\n")
	for _, s := range statements {
		names := shown[s.Clause]
		text := strings.Join(names[:min(most, len(names))], "; ")
		switch {
		case len(names) > most:
			text += fmt.Sprintf("; and %d more", len(names)-most)
		case len(names) == 0:
			text = "– " + s.Why
		}
		fmt.Fprintf(&b, "| %s | %s |\n", s.Clause, text)
	}
	return b.String()
}
