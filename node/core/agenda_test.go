package core

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAgenda compares it with a list that is sorted anew each time.
func TestAgenda(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	a := newAgenda()
	var list []appointment
	all := make([]*session, 50)
	for i := range all {
		all[i] = &session{}
	}
	for step := range 5000 {
		s := all[rng.IntN(len(all))]
		list = slices.DeleteFunc(list, func(p appointment) bool { return p.session == s })
		if a.drop(s); rng.IntN(3) > 0 {
			until := 1 + rng.Int64N(20)
			a.put(s, until)
			list = append(list, appointment{s, until, uint64(step)})
		}
		slices.SortStableFunc(list, func(a, b appointment) int { return cmp.Or(cmp.Compare(a.until, b.until), cmp.Compare(a.n, b.n)) })
		w := wake{}
		a.wake(&w)
		if a.Len() != len(list) || len(list) > 0 && (a.all[0].session != list[0].session || w.ms != list[0].until) {
			t.Fatalf("step %d: %d wait, want %d, or another one is in front", step, a.Len(), len(list))
		}
	}
	var order []*session
	for s := range a.due(21) {
		order = append(order, s)
		a.drop(s)
	}
	if !slices.EqualFunc(order, list, func(s *session, p appointment) bool { return s == p.session }) || len(a.at) > 0 {
		t.Error("what is due comes in another order than it was put in")
	}
}
