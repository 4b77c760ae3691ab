package journal

import (
	"errors"
	"fmt"
)

// What is worth cleaning: a segment of which less than this share is needed,
// with neighbours that are not much better off; or many small ones.
const (
	cleanShare  = 0.25
	cleanFriend = 0.5
	cleanSmall  = 8
)

var errNothing = errors.New("nothing to clean")

// Clean rewrites segments of which little is needed, until none is left, and
// removes those of which nothing is.
func (s *Store) Clean() error {
	s.maint.mu.Lock()
	defer s.maint.mu.Unlock()
	return s.clean(cleanShare)
}

func (s *Store) clean(share float64) error {
	for {
		if s.deadSegments() > 0 {
			if err := s.checkpoint(false); err != nil {
				return err
			}
		}
		switch err := s.cleanOne(share); {
		case errors.Is(err, errNothing):
			return nil
		case err != nil:
			return err
		}
	}
}

// cleanOne makes one cold segment of a run of others. The caller holds
// maint.mu.
func (s *Store) cleanOne(share float64) error {
	if s.poison.Load() != nil {
		return errNothing
	}
	run := s.pick(share)
	if run == nil {
		return errNothing
	}
	if s.index != nil && run[len(run)-1].last >= s.maint.savedNum {
		// A checkpoint must know what is replaced: it is what recovery goes by.
		if err := s.checkpoint(false); err != nil {
			return err
		}
		if run = s.pick(share); run == nil {
			return errNothing
		}
	}
	if err := s.merge(run); err != nil {
		s.mu.Lock()
		for _, seg := range run {
			seg.next = 0
		}
		s.mu.Unlock()
		return fmt.Errorf("clean segments %d to %d: %w", run[0].num, run[len(run)-1].last, err)
	}
	return nil
}

// candidate is a segment as pick sees it.
type candidate struct {
	seg    *segment
	useful int64
	open   bool // may be part of a run
}

func (c *candidate) share() float64 { return float64(c.useful) / float64(max(c.seg.end, 1)) }

// pays reports whether rewriting it frees enough. What the cleaner wrote is
// rewritten only once half of it has become useless, whatever the estimate of
// what is useful says.
func (c *candidate) pays(size int64) bool {
	return c.seg.end-c.useful >= size/1024 && (c.seg.fresh == 0 || c.useful <= c.seg.fresh/2)
}

// pick chooses a run of adjacent segments.
func (s *Store) pick(share float64) []*segment {
	s.mu.RLock()
	defer s.mu.RUnlock()
	exists := map[uint64]bool{}
	list := make([]candidate, len(s.book.segs))
	for i, seg := range s.book.segs {
		list[i] = candidate{seg, seg.useful(exists, i == 0), seg.sealed && seg.end > 0 && !s.isDamaged(seg)}
		exists[seg.nonce] = true
	}
	best := -1
	for i := range list {
		c := &list[i]
		if c.open && c.useful > 0 && c.share() < share && c.pays(s.cfg.SegmentBytes) && (best < 0 || c.share() < list[best].share()) {
			best = i
		}
	}
	if best < 0 {
		return pickSmall(list, s.cfg.SegmentBytes)
	}
	from, to, sum := best, best+1, list[best].useful
	friend := max(cleanFriend, share)
	joins := func(i int) bool {
		return i >= 0 && i < len(list) && list[i].open && list[i].share() < friend && sum+list[i].useful <= s.cfg.SegmentBytes
	}
	for joins(from - 1) {
		from--
		sum += list[from].useful
	}
	for joins(to) {
		sum += list[to].useful
		to++
	}
	return segmentsOf(list[from:to])
}

// pickSmall finds many small neighbours, as restarts leave them.
func pickSmall(list []candidate, size int64) []*segment {
	from, sum := 0, int64(0)
	for i := range list {
		if !list[i].open || list[i].seg.end > size/cleanSmall {
			from, sum = i+1, 0
			continue
		}
		if sum += list[i].seg.end; i+1-from >= cleanSmall && sum <= size {
			return segmentsOf(list[from : i+1])
		}
		if sum > size {
			from, sum = i+1, 0
		}
	}
	return nil
}

func segmentsOf(list []candidate) (segs []*segment) {
	for i := range list {
		segs = append(segs, list[i].seg)
	}
	return segs
}
