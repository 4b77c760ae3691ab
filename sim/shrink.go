package sim

import (
	"slices"

	"github.com/farhop/farhop/sim/oracle"
	"github.com/farhop/farhop/sim/scenario"
)

// Shrink looks for a smaller world that breaks the same law with the same
// seed: first without most of its faults, then without devices. It plays at
// most runs worlds and returns the smallest that still fails, with how often
// it played. A world that does not fail is returned as it is.
func Shrink(w *scenario.World, seed uint64, law oracle.Law, runs int) (*scenario.World, int) {
	s := &shrinker{seed: seed, law: law, left: runs, opt: Option{}}
	best := *w
	best.Faults = reduce(s, best.Faults, func(f []scenario.Fault) *scenario.World {
		try := best
		try.Faults = f
		return &try
	})
	best.Publishers = reduce(s, best.Publishers, func(p []scenario.Publisher) *scenario.World {
		try := best
		try.Publishers = p
		return &try
	})
	best.Faults = reduce(s, best.Faults, func(f []scenario.Fault) *scenario.World {
		try := best
		try.Faults = f
		return &try
	})
	return &best, runs - s.left
}

type shrinker struct {
	seed uint64
	law  oracle.Law
	left int // runs
	opt  Option
}

// fails reports whether a world still breaks the law.
func (s *shrinker) fails(w *scenario.World) bool {
	if s.left <= 0 {
		return false
	}
	s.left--
	r, err := Run(w, s.seed, s.opt)
	return err == nil && slices.ContainsFunc(r.Broken, func(v oracle.Violation) bool { return v.Law == s.law })
}

// reduce drops ever smaller parts of a list for as long as the world fails
// without them.
func reduce[T any](s *shrinker, list []T, with func([]T) *scenario.World) []T {
	for size := max(len(list)/2, 1); len(list) > 0; size = max(size/2, 1) {
		dropped := false
		for at := 0; at < len(list); {
			try := slices.Concat(list[:at], list[min(at+size, len(list)):])
			if s.fails(with(try)) {
				list, dropped = try, true
			} else {
				at += size
			}
		}
		if size == 1 && !dropped || s.left <= 0 {
			break
		}
	}
	return list
}
