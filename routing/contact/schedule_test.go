package contact

import (
	"testing"
	"time"
)

func TestScheduleEdges(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	for _, s := range []Schedule{
		{},
		{Every: time.Minute, For: 20 * time.Second},
		{Start: start, Every: time.Minute, For: 20 * time.Second},
		{Start: start, Every: time.Minute, For: time.Minute},
	} {
		if err := s.Validate(); err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		at := start.Add(-90 * time.Second)
		for end := start.Add(5 * time.Minute); at.Before(end); {
			next := s.Next(at)
			// The slow, obvious twin: step by step until Open changes.
			want := time.Time{}
			for x := at; x.Before(at.Add(3 * time.Minute)); x = x.Add(time.Second) {
				if s.Open(x) != s.Open(at) {
					want = x
					break
				}
			}
			if !next.Equal(want) {
				t.Fatalf("%+v: next edge after %v is %v, want %v", s, at.Sub(start), next.Sub(start), want.Sub(start))
			}
			if next.IsZero() {
				break
			}
			at = next
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, s := range []Schedule{{Every: -1}, {For: 1}, {Every: 10}, {Every: 10, For: 11}, {Start: time.Unix(1, 0)}} {
		if s.Validate() == nil {
			t.Errorf("%+v is valid", s)
		}
	}
}
