package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// small is a module with one function and one test.
var small = map[string]string{
	"go.mod": "module example.com/small\n\ngo 1.26\n",
	"p/p.go": "package p\n\nfunc Max(a, b int) int {\n\tif a > b {\n\t\treturn a\n\t}\n\treturn b\n}\n",
	"p/p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestMax(t *testing.T) {\n\tif Max(1, 2) != 2 {\n\t\tt.Error(\"law of the larger\")\n\t}\n}\n\n" +
		"func TestBad(t *testing.T) { t.Error(\"always\") }\n",
}

// TestVerdicts plants bugs in a small module and judges them.
func TestVerdicts(t *testing.T) {
	root := t.TempDir()
	for name, text := range small {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const tests = "p ^TestMax$"
	less := mutant{file: "p/p.go", old: "a > b", new: "a < b", tests: tests}
	with := func(edit func(*mutant)) mutant {
		m := less
		edit(&m)
		return m
	}
	cases := []struct {
		name string
		m    mutant
		want verdict
	}{
		{"found", less, killed},
		{"found by the right law", with(func(m *mutant) { m.law = "law of the larger" }), killed},
		{"found by another law", with(func(m *mutant) { m.law = "law of the smaller" }), wrongLaw},
		{"found by too many laws", with(func(m *mutant) { m.not = "of the l" }), wrongLaw},
		{"not found", with(func(m *mutant) { m.new = "a >= b" }), survived},
		{"a panic", with(func(m *mutant) { m.new = "a/(b-2) > b" }), killed},
		{"not there", with(func(m *mutant) { m.old = "a == b" }), unfit},
		{"there twice", with(func(m *mutant) { m.old = "return" }), unfit},
		{"no Go", with(func(m *mutant) { m.new = "a >" }), broken},
		{"no such test", with(func(m *mutant) { m.tests = "p ^TestMin$" }), unready},
		{"a test that fails anyway", with(func(m *mutant) { m.tests = "p ^TestBad$" }), unready},
	}
	w := &workshop{root: root, dir: t.TempDir()}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if r := w.try(t.Context(), c.m); r.verdict != c.want {
				t.Errorf("%s (%s), want %s\n%s", r.verdict, r.how, c.want, r.output)
			}
		})
	}
	if src, err := os.ReadFile(filepath.Join(root, "p", "p.go")); err != nil || string(src) != small["p/p.go"] {
		t.Errorf("the tree was touched: %v\n%s", err, src)
	}
}

// TestTable looks for entries that cannot be what they should be.
func TestTable(t *testing.T) {
	var names []string
	for _, m := range table() {
		if slices.Contains(names, m.name) {
			t.Errorf("%q is there twice", m.name)
		}
		names = append(names, m.name)
		if m.name == "" || m.old == "" || m.old == m.new || m.tests == "" {
			t.Errorf("%q: name, old text, another new text and tests are needed", m.name)
		}
		if words := strings.Fields(m.tests); len(words) < 2 || strings.HasPrefix(words[1], "-") {
			t.Errorf("%q: its tests are %q, want a package, a regular expression, and flags after that", m.name, m.tests)
		}
		src, err := os.ReadFile(filepath.Join("..", "..", m.file))
		if n := strings.Count(string(src), m.old); err != nil || n != 1 {
			t.Errorf("%q: its old text is %d times in %s: %v", m.name, n, m.file, err)
		}
	}
}
