package core

import (
	"fmt"
	"slices"
	"testing"
)

// TestFinder: with and without an index, the same is found.
func TestFinder(t *testing.T) {
	for _, asked := range []int{1, fewFilters, fewFilters + 1, 1000} {
		s := &session{}
		find := s.finder(asked)
		for i := range 50 {
			name := fmt.Sprint("f/", i)
			if at := find(name); at != -1 {
				t.Fatalf("asked %d: %s is at %d before it was added", asked, name, at)
			}
			s.subs = append(s.subs, &subscription{Subscription: Subscription{Filter: name}})
			if at := find(name); at != i {
				t.Fatalf("asked %d: %s is at %d, want %d", asked, name, at, i)
			}
		}
		filters := slices.Repeat([]string{"f/1", "f/7"}, asked)
		if is := named(filters); !is("f/7") || is("f/2") {
			t.Errorf("%d names: f/7 %t, f/2 %t", len(filters), is("f/7"), is("f/2"))
		}
	}
}
