package core

import "github.com/farhop/farhop/routing/interest"

// Sought is what all sessions together want that messages wait for. A driver
// keeps one by what Effects says came and went: a hundred thousand sessions
// that begin one after the other must not cost a hundred thousand lists of all.
// The zero Sought is empty. It is not safe for concurrent use, but by readers.
type Sought struct {
	filters interest.Trie[struct{}]
	more    map[string]int // of a filter that several have, how many beyond the first
}

// Apply takes in Effects.Came and Effects.Gone.
func (s *Sought) Apply(came, gone []string) {
	for _, f := range came {
		if s.filters.Add(f, struct{}{}) {
			continue
		}
		if s.more == nil {
			s.more = map[string]int{}
		}
		s.more[f]++
	}
	for _, f := range gone {
		switch n := s.more[f]; {
		case n == 0:
			s.filters.Remove(f, struct{}{})
		case n == 1:
			delete(s.more, f)
		default:
			s.more[f] = n - 1
		}
	}
}

// Wants reports whether a session wants a topic.
func (s *Sought) Wants(topic string) bool {
	wants := false
	s.filters.Match(topic, func(struct{}) { wants = true })
	return wants
}

// Filters returns each filter once, sorted.
func (s *Sought) Filters() []string { return s.filters.Filters() }

// fewNews are kept for the next Effects; all that a start tells is not.
const fewNews = 4096

func emptied(filters []string) []string {
	if clear(filters); cap(filters) > fewNews {
		return nil
	}
	return filters[:0]
}

// seek tells what a session wants, or no more, once messages begin or cease to
// wait for it. Whatever decides that calls it.
func (c *Core) seek(s *session) {
	switch seeks := s.durable() || s.lent; {
	case seeks && !s.seeks:
		s.seeks = true
		for _, sub := range s.subs {
			c.came(sub)
		}
	case !seeks && s.seeks:
		for _, sub := range s.subs {
			c.gone(sub)
		}
		s.seeks = false
	}
}

// came tells of a filter that a session has from now on.
func (c *Core) came(sub *subscription) {
	if sub.session.seeks {
		c.cur.Came = append(c.cur.Came, sub.matches())
	}
}

// gone tells of a filter that a session has no more.
func (c *Core) gone(sub *subscription) {
	if sub.session.seeks {
		c.cur.Gone = append(c.cur.Gone, sub.matches())
	}
}
