package main

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestCampaign plays three short rounds with the real program.
func TestCampaign(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("kills real processes by Linux means: run on Linux, without -short")
	}
	program := filepath.Join(t.TempDir(), "farhop")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/farhop/farhop/cmd/farhop").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var out, errs bytes.Buffer
	args := []string{"-farhop", program, "-rounds", "3", "-seed", "5", "-only", "kill,kill two,stop", "-keep", filepath.Join(t.TempDir(), "nodes")}
	if code := run(t.Context(), args, &out, &errs); code != exitGood {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	if !strings.HasSuffix(out.String(), "\n3 rounds, 0 lost, 0 duplicated\n") {
		t.Errorf("it ends with:\n%s", out.String())
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"more"}, {"-farhop", "/does/not/exist"}, {"-seed", "x"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != exitUnfit || errs.Len() == 0 {
			t.Errorf("%v: exit code %d, %q", args, code, errs.String())
		}
	}
}

// TestDraw draws every kind of trouble, as often as its weight says.
func TestDraw(t *testing.T) {
	c := &campaign{kinds: troubles}
	rng, counts, sum := rand.New(rand.NewPCG(1, 1)), map[string]int{}, 0
	const n = 20_000
	for range n {
		counts[c.draw(rng).name]++
	}
	for _, k := range troubles {
		sum += k.weight
	}
	for _, k := range troubles {
		want := n * k.weight / sum
		if got := counts[k.name]; got < want*8/10 || got > want*12/10 {
			t.Errorf("%q was drawn %d times, want about %d", k.name, got, want)
		}
	}
}
