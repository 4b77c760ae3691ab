package storeforward

import (
	"cmp"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Preview returns what an outlet would take first, up to max bytes of payload,
// and leaves it as it is: the classes in their order, and in each what came
// first. What is not durable and obituaries are passed over. loading says that
// something waits which is not read from the store yet.
func (m *Machine) Preview(o *Outlet, most int64) (items []*Item, loading bool) {
	for c := range bundle.Class(bundle.NumClasses) {
		var waiting []*Item
		for _, q := range o.ready[c].s {
			for i, left := q.cursor, most; i != nil && m.Durable(i) && left > 0; i = i.nextWaiting() {
				if i.Entry.State == store.Ended {
					continue
				}
				waiting = append(waiting, i)
				left -= i.size()
			}
		}
		slices.SortFunc(waiting, func(a, b *Item) int { return cmp.Compare(a.Header.Seq, b.Header.Seq) })
		for _, i := range waiting {
			if most -= i.size(); most < 0 {
				return items, false
			}
			items = append(items, i)
		}
	}
	if len(items) > 0 {
		return items, false
	}
	m.Queues(func(q *Queue) { loading = loading || q.outlet == o && q.Count > 0 && q.windowed == 0 && q.loading })
	return nil, loading
}
