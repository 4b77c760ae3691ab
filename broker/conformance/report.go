package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Report is the results of many cases, in their order.
type Report []Result

// RunAll runs cases against the server at an address, Parallel of them at the
// same time.
func (c Config) RunAll(ctx context.Context, addr string, cases []Case) Report {
	c = c.filled()
	out := make(Report, len(cases))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(c.Parallel, len(cases)) {
		wg.Go(func() {
			for i := range next {
				out[i] = c.Run(ctx, addr, cases[i])
			}
		})
	}
	for i := range cases {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

// Count says how many cases of a version (4, 5, or 0 for both) ended so.
func (r Report) Count(version byte, o Outcome) int {
	n := 0
	for _, one := range r {
		if (version == 0 || one.Case.Version == version) && one.Outcome == o {
			n++
		}
	}
	return n
}

// Summary is one line per version.
func (r Report) Summary() string {
	var b strings.Builder
	for _, v := range []byte{4, 5} {
		fmt.Fprintf(&b, "%s: %d passed, %d lax, %d failed, %d skipped\n", map[byte]string{4: "MQTT 3.1.1", 5: "MQTT 5"}[v],
			r.Count(v, Passed), r.Count(v, Lax), r.Count(v, Failed), r.Count(v, Skipped))
	}
	return b.String()
}

// Clauses is a table of outcomes, one line per statement that some case shows.
func (r Report) Clauses() string {
	counts := map[string]*[4]int{}
	var order []string
	for _, one := range r {
		for _, c := range one.Case.Clauses {
			if counts[c] == nil {
				counts[c] = &[4]int{}
				order = append(order, c)
			}
			counts[c][one.Outcome]++
		}
	}
	slices.SortFunc(order, compareClauses)
	var b strings.Builder
	for _, c := range order {
		n := counts[c]
		fmt.Fprintf(&b, "%-24s %3d passed %3d lax %3d failed %3d skipped\n", c, n[Passed], n[Lax], n[Failed], n[Skipped])
	}
	return b.String()
}

// Faults lists the cases that did not pass, one paragraph each.
func (r Report) Faults(outcomes ...Outcome) string {
	var b strings.Builder
	for _, one := range r {
		if slices.Contains(outcomes, one.Outcome) {
			fmt.Fprintf(&b, "%s %s\n    %s\n    at %q: %s\n", one.Outcome, one.Case.Name, strings.Join(one.Clauses, ", "), one.Step, one.What)
		}
	}
	return b.String()
}

// compareClauses sorts by standard and number: 3.2.0-1 before 3.10.1-1.
func compareClauses(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" []-.", r) })
	}
	return slices.CompareFunc(split(a), split(b), func(x, y string) int {
		if len(x) != len(y) && x[0] <= '9' && y[0] <= '9' {
			return len(x) - len(y)
		}
		return strings.Compare(x, y)
	})
}
