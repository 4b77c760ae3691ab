package storeforward

import "github.com/farhop/farhop/storeforward/store"

// numKinds is one beyond the last kind.
const numKinds = int(store.ToOrder) + 1

// ages has all queues by age, so that no map order reaches an effect. Those of
// a kind are a list: of the many of sessions each comes and goes in the same
// time, and nobody has to look at them for the few of another kind.
type ages struct {
	kinds [numKinds]kindQueues
	drawn uint64
}

// kindQueues are the queues of a kind, the oldest first.
type kindQueues struct{ first, last *Queue }

// of takes kinds that nobody knows as one.
func (a *ages) of(k store.Kind) *kindQueues {
	if int(k) >= numKinds {
		k = 0
	}
	return &a.kinds[k]
}

func (a *ages) add(q *Queue) {
	a.drawn++
	q.age = a.drawn
	k := a.of(q.Name.Kind)
	if q.older = k.last; q.older != nil {
		q.older.younger = q
	} else {
		k.first = q
	}
	k.last = q
}

func (a *ages) remove(q *Queue) {
	k := a.of(q.Name.Kind)
	if q.older != nil {
		q.older.younger = q.younger
	} else {
		k.first = q.younger
	}
	if q.younger != nil {
		q.younger.older = q.older
	} else {
		k.last = q.older
	}
	q.older, q.younger = nil, nil
}

// each calls f for all, the oldest first. f may add queues, and remove the one
// that it is called for.
func (a *ages) each(f func(*Queue)) {
	var next [numKinds]*Queue
	for k := range a.kinds {
		next[k] = a.kinds[k].first
	}
	for {
		oldest := -1
		for k, q := range next {
			if q != nil && (oldest < 0 || q.age < next[oldest].age) {
				oldest = k
			}
		}
		if oldest < 0 {
			return
		}
		q := next[oldest]
		next[oldest] = q.younger
		f(q)
	}
}
