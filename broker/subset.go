package broker

import "iter"

// subset is the subscriptions of one client by their filters, as it wrote
// them. Most have one, and a map for it would cost more than all the rest.
type subset struct {
	one  *liveSub
	many map[string]*liveSub // two or more, instead of one
}

func (s *subset) len() int {
	if s.one != nil {
		return 1
	}
	return len(s.many)
}

// get returns nil for a filter that is not there.
func (s *subset) get(filter string) *liveSub {
	if s.one != nil && s.one.opt.Filter == filter {
		return s.one
	}
	return s.many[filter]
}

// put adds a subscription, or replaces the one with its filter.
func (s *subset) put(v *liveSub) {
	switch {
	case s.many != nil:
		s.many[v.opt.Filter] = v
	case s.one == nil, s.one.opt.Filter == v.opt.Filter:
		s.one = v
	default:
		s.many = map[string]*liveSub{s.one.opt.Filter: s.one, v.opt.Filter: v}
		s.one = nil
	}
}

func (s *subset) remove(filter string) {
	if s.one != nil && s.one.opt.Filter == filter {
		s.one = nil
	}
	if delete(s.many, filter); len(s.many) == 0 {
		s.many = nil
	}
}

// all lists the subscriptions, in no order. They may be removed meanwhile.
func (s *subset) all() iter.Seq[*liveSub] {
	return func(yield func(*liveSub) bool) {
		if s.one != nil {
			yield(s.one)
			return
		}
		for _, v := range s.many {
			if !yield(v) {
				return
			}
		}
	}
}
