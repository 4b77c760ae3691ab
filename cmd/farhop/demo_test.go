package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemoRefusesBeforeItStarts covers what ends before a node is made. The
// demo itself is played by make demo.
func TestDemoRefusesBeforeItStarts(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"too short", []string{"--duration", "3s"}, exitUsage, "--duration: 3s is not between 20s and"},
		{"too long", []string{"--duration", "900h"}, exitUsage, "--duration: 900h0m0s is not between"},
		{"no duration", []string{"--duration", "long"}, exitUsage, "duration"},
		{"an argument", []string{"luna"}, exitUsage, `takes no arguments, not "luna"`},
		{"somebody's files", []string{"--json", "--keep", full}, exitFailed, "is not empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"demo"}, c.args...), strings.NewReader(""), &out, &errs)
			if code != c.code || !strings.Contains(errs.String(), c.want) || out.Len() != 0 {
				t.Errorf("exit %d, out %q, errors %q; want exit %d and %q", code, &out, &errs, c.code, c.want)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if terminal(f) || terminal(&bytes.Buffer{}) {
		t.Error("a file or a buffer passes for a terminal")
	}
}
