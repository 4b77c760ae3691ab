package core

import "slices"

// fewFilters are looked up one by one; more get an index for as long as one
// request takes. A SUBSCRIBE may name thousands, and to compare each with each
// would hold up everybody else.
const fewFilters = 16

// finder returns a function that tells where in s.subs a filter is, -1 for
// nowhere. s.subs may grow at its end between calls.
func (s *session) finder(asked int) func(filter string) int {
	if asked <= fewFilters {
		return func(filter string) int {
			return slices.IndexFunc(s.subs, func(o *subscription) bool { return o.Filter == filter })
		}
	}
	at, known := make(map[string]int, len(s.subs)+asked), 0
	return func(filter string) int {
		for ; known < len(s.subs); known++ {
			at[s.subs[known].Filter] = known
		}
		if i, ok := at[filter]; ok {
			return i
		}
		return -1
	}
}

// named returns a function that tells whether a filter is among some.
func named(filters []string) func(filter string) bool {
	if len(filters) <= fewFilters {
		return func(filter string) bool { return slices.Contains(filters, filter) }
	}
	set := make(map[string]bool, len(filters))
	for _, f := range filters {
		set[f] = true
	}
	return func(filter string) bool { return set[filter] }
}
