package storeforward

import (
	"cmp"
	"slices"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Preview returns what waits in some of the queues to nodes and regions and would
// go first, up to most bytes of payload, and leaves it as it is: the classes in their order, and in each
// what came first. What is not durable, what rests and obituaries are passed
// over. loading says that something waits which is not read from the store yet.
func (m *Machine) Preview(of func(store.Queue) bool, most int64) (items []*Item, loading bool) {
	var waiting [bundle.NumClasses][]*Item
	look := func(q *Queue) {
		if q.Count == 0 || q.resting || !of(q.Name) {
			return
		}
		loading = loading || q.windowed == 0 && q.loading
		for i, left := q.cursor, most; i != nil && m.Durable(i) && left > 0; i = i.nextWaiting() {
			if i.Entry.State == store.Ended {
				continue
			}
			waiting[q.Name.Class] = append(waiting[q.Name.Class], i)
			left -= i.size()
		}
	}
	m.QueuesOf(store.ToNode, look)
	m.QueuesOf(store.ToRegion, look)
	for _, all := range waiting {
		slices.SortFunc(all, func(a, b *Item) int { return cmp.Compare(a.Header.Seq, b.Header.Seq) })
		for _, i := range all {
			if most -= i.size(); most < 0 {
				return items, false
			}
			items = append(items, i)
		}
	}
	return items, loading && len(items) == 0
}
