package interest

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTrieSummary: it stands for all filters but those of '$', keeps to the
// limit, is exact where they fit, and the same whatever the order they came in.
func TestTrieSummary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := slices.DeleteFunc(rapid.SliceOfN(filters, 0, 40).Draw(t, "filters"), func(f string) bool { return f[0] == '$' })
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		sum := func(in []string) []string {
			var tr Trie[int]
			for _, f := range append([]string{"$x/a"}, in...) {
				tr.Add(f, 1)
			}
			return tr.Summary(limit)
		}
		out := sum(in)
		if len(out) > limit || !slices.IsSorted(out) {
			t.Fatalf("of %q, limit %d: %q", in, limit, out)
		}
		for _, f := range in {
			if !slices.ContainsFunc(out, func(o string) bool { return Covers(o, f) }) {
				t.Fatalf("nothing of %q covers %q", out, f)
			}
		}
		if distinct := slices.Compact(slices.Sorted(slices.Values(in))); len(distinct)+1 <= limit {
			if want := Summary(in, limit); !slices.Equal(out, want) {
				t.Fatalf("got %q, want %q", out, want)
			}
		}
		slices.Reverse(in)
		if again := sum(in); !slices.Equal(again, out) {
			t.Fatalf("in another order: %q, want %q", again, out)
		}
	})
}

// TestTrieSummaryOfCrowd: the many are summed up, and not the few beside them.
func TestTrieSummaryOfCrowd(t *testing.T) {
	var tr Trie[int]
	for i := range 5000 {
		tr.Add(fmt.Sprintf("idle/%d/orders", i), i)
	}
	few := []string{"deep/a/b/c/d", "deep/a/b/c/e", "view/+/state"}
	for _, f := range few {
		tr.Add(f, 1)
	}
	got := tr.Summary(100)
	if want := []string{few[0], few[1], "idle/#", few[2]}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// BenchmarkTrieSummary has a million devices with a filter each.
func BenchmarkTrieSummary(b *testing.B) {
	var tr Trie[int]
	for i := range 1_000_000 {
		tr.Add(fmt.Sprintf("plant/%d/%d/orders", i/1000, i%1000), i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := tr.Summary(16384); len(got) > 16384 {
			b.Fatal(len(got))
		}
	}
}
