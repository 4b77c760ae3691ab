package storeforward

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/farhop/farhop/storeforward/store"
)

// TestAges: whatever came and went, all are visited by age, and those of a kind.
func TestAges(t *testing.T) {
	var a ages
	var want []*Queue // oldest first
	rng := rand.New(rand.NewPCG(1, 2))
	check := func(what string, got, want []*Queue) {
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %d queues, want %d by age", what, len(got), len(want))
		}
	}
	for i := range 500 {
		if n := len(want); n > 0 && rng.IntN(3) == 0 {
			at := rng.IntN(n)
			a.remove(want[at])
			want = slices.Delete(want, at, at+1)
		} else {
			kind := store.Kind(rng.IntN(numKinds + 2)) // some that nobody knows
			q := &Queue{Name: store.Queue{Kind: kind, Name: fmt.Sprint(i)}}
			a.add(q)
			want = append(want, q)
		}
		var got []*Queue
		a.each(func(q *Queue) { got = append(got, q) })
		check("all", got, want)
		got = nil
		for q := a.of(store.ToSession).first; q != nil; q = q.younger {
			got = append(got, q)
		}
		check("sessions", got, slices.DeleteFunc(slices.Clone(want), func(q *Queue) bool { return q.Name.Kind != store.ToSession }))
	}
}
