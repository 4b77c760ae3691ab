package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestCampaign plays a little of each campaign with the real program.
func TestCampaign(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("kills real processes by Linux means: run on Linux, without -short")
	}
	program := filepath.Join(t.TempDir(), "farhop")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/farhop/farhop/cmd/farhop").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	play := func(t *testing.T, args ...string) (out, errs bytes.Buffer) {
		args = append(args, "-farhop", program, "-keep", filepath.Join(t.TempDir(), "nodes"))
		if code := run(t.Context(), args, &out, &errs); code != exitGood {
			t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
		}
		return out, errs
	}
	t.Run("rounds", func(t *testing.T) {
		out, _ := play(t, "-rounds", "3", "-seed", "5", "-only", "kill,kill two,stop")
		if !strings.HasSuffix(out.String(), "\n3 rounds, 0 lost, 0 duplicated\n") {
			t.Errorf("it ends with:\n%s", out.String())
		}
	})
	t.Run("mishaps", func(t *testing.T) {
		out, errs := play(t, "-mishaps", "10", "-seed", "8", "-json")
		var v verdict
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		for _, kind := range []string{"kill -9", "kill -9 amid a cut", "kill -9 at a dial", "cut at a dial"} {
			if v.Kinds[kind] == 0 {
				t.Errorf("%q was not among %v", kind, v.Kinds)
			}
		}
		for _, link := range []string{"lte", "sat"} {
			if v.Carried[link] < 100_000 { // what is not a probe
				t.Errorf("link %s carried %d bytes", link, v.Carried[link])
			}
		}
		if v.Seed != 8 || v.Mishaps != 10 || v.LinksUp != 4 || v.Links != 4 || v.Lost != 0 || v.Duplicated != 0 || v.Acknowledged == 0 || v.Acknowledged != v.Published {
			t.Errorf("it was judged %+v", v)
		}
		if !strings.HasSuffix(errs.String(), "\n10 mishaps, 0 lost, 0 duplicated\n") {
			t.Errorf("it ends with:\n%s", errs.String())
		}
	})
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-mishaps", "-1"}, {"more"}, {"-farhop", "/does/not/exist"}, {"-seed", "x"}} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != exitUnfit || errs.Len() == 0 {
			t.Errorf("%v: exit code %d, %q", args, code, errs.String())
		}
	}
}

// TestDraw draws every kind of trouble, as often as its weight says.
func TestDraw(t *testing.T) {
	for _, table := range [][]trouble{troubles, mishaps} {
		c := &campaign{kinds: table}
		rng, counts, sum := rand.New(rand.NewPCG(1, 1)), map[string]int{}, 0
		const n = 20_000
		for range n {
			counts[c.draw(rng).name]++
		}
		for _, k := range table {
			sum += k.weight
		}
		for _, k := range table {
			want := n * k.weight / sum
			if got := counts[k.name]; got < want*8/10 || got > want*12/10 {
				t.Errorf("%q was drawn %d times, want about %d", k.name, got, want)
			}
		}
	}
}
