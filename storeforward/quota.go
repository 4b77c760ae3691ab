package storeforward

import (
	"maps"
	"slices"
	"strings"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Usage is what is stored on account of one quota.
type Usage struct {
	Key   string
	Bytes int64 // of payloads, once per entry
	Count int   // messages, once per entry

	noted bool // in Machine.charged
}

// reserve is the share of the store, in percent, that each class leaves to
// those above it: when room runs out, new work of the lowest class is refused
// first, and the mesh's own control last.
var reserve = [bundle.NumClasses]int64{
	bundle.Control: 0, bundle.Alarm: 2, bundle.Interactive: 5, bundle.Telemetry: 10, bundle.Bulk: 20,
}

// Room reports whether a message of a class, of size bytes and with n entries,
// may still come in, and the reason when not.
func (m *Machine) Room(class bundle.Class, size, n int) bundle.Reason {
	return m.RoomAfter(&Freed{}, class, size, n)
}

// RoomAfter is Room once freed is gone.
func (m *Machine) RoomAfter(freed *Freed, class bundle.Class, size, n int) bundle.Reason {
	kept := reserve[class]
	if int64(m.stats.Messages-freed.Messages+n) > int64(m.cfg.MaxCount)-int64(m.cfg.MaxCount)*kept/100 ||
		m.stats.Bytes-freed.Bytes+int64(size)*int64(n) > m.cfg.MaxBytes-m.cfg.MaxBytes/100*kept {
		return bundle.StoreFull
	}
	return bundle.OK
}

// Free returns how many messages and bytes of a class may still come in.
func (m *Machine) Free(class bundle.Class) (count int, size int64) {
	above := reserve[class]
	count = m.cfg.MaxCount - int(int64(m.cfg.MaxCount)*above/100) - m.stats.Messages
	size = m.cfg.MaxBytes - m.cfg.MaxBytes/100*above - m.stats.Bytes
	return max(count, 0), max(size, 0)
}

// Freed is what the end of some items would give back.
type Freed struct {
	Messages int
	Bytes    int64
	Accounts map[string]Usage
}

// Add counts an item in. whole says that its entry goes too: it leaves no
// obituary.
func (f *Freed) Add(i *Item, whole bool) {
	if whole {
		f.Messages++
	}
	f.Bytes += i.size()
	if i.Header.Charge == "" || i.Entry.State == store.Ended {
		return
	}
	if f.Accounts == nil {
		f.Accounts = map[string]Usage{}
	}
	for key := range strings.SplitSeq(i.Header.Charge, "\n") {
		u := f.Accounts[key]
		u.Count += max(int(i.Header.Count), 1)
		u.Bytes += int64(i.Header.Size)
		f.Accounts[key] = u
	}
}

// HalfFree reports whether the store is at most half full with a message of
// size bytes more.
func (m *Machine) HalfFree(size int) bool {
	return m.stats.Messages+1 <= (m.cfg.MaxCount+1)/2 && m.stats.Bytes+int64(size) <= m.cfg.MaxBytes/2
}

// Used returns what is stored on account of a quota.
func (m *Machine) Used(key string) Usage {
	if u := m.usage[key]; u != nil {
		return *u
	}
	return Usage{Key: key}
}

// Usages calls f for every account that is not empty, by key.
func (m *Machine) Usages(f func(Usage)) {
	keys := make([]string, 0, len(m.usage))
	for k := range m.usage {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		f(*m.usage[k])
	}
}

// RestoreUsage takes back an account that was kept in the State.
func (m *Machine) RestoreUsage(u Usage) { m.usage[u.Key] = &u }

// Recount replaces all accounts by what is stored on them.
func (m *Machine) Recount(used map[string]Usage) {
	keys := slices.Collect(maps.Keys(used))
	for key := range m.usage {
		if _, ok := used[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	m.charged = m.charged[:0]
	for _, key := range keys {
		u := used[key]
		u.Key, u.noted = key, true
		m.usage[key] = &u
		m.charged = append(m.charged, &u)
	}
}

// TakeCharged calls f for each account that changed since the last call, in
// the order of their first change. The owner keeps them in the State, in the
// batch of the change; an empty one has to go.
func (m *Machine) TakeCharged(f func(Usage)) {
	for _, u := range m.charged {
		u.noted = false
		if u.Count == 0 {
			delete(m.usage, u.Key)
		}
		f(*u)
	}
	clear(m.charged)
	m.charged = m.charged[:0]
}

// charge adds one entry of a message to its accounts, or takes it out again.
// Header.Charge lists them, one a line.
func (m *Machine) charge(h *store.Header, sign int) {
	if h.Charge == "" {
		return
	}
	for key := range strings.SplitSeq(h.Charge, "\n") {
		u := m.usage[key]
		if u == nil {
			u = &Usage{Key: key}
			m.usage[key] = u
		}
		u.Count += sign * int(max(h.Count, 1))
		u.Bytes += int64(sign) * int64(h.Size)
		if !u.noted {
			u.noted = true
			m.charged = append(m.charged, u)
		}
	}
}

// Rest makes a queue offer nothing until Resume. Then one item goes, and only
// as items are taken more: what was refused is never sent again all at once.
func (m *Machine) Rest(q *Queue) {
	q.resting, q.credit = true, 1
	m.ready(q)
}

// Taken tells that an item of a queue with little credit was taken, which
// doubles the credit.
func (m *Machine) Taken(q *Queue) {
	if q.credit == 0 {
		return
	}
	if q.credit *= 2; q.credit > m.cfg.Window {
		q.credit, q.line = 0, line{}
	}
	m.ready(q)
}

// Resume ends the rest of a queue.
func (m *Machine) Resume(q *Queue) {
	q.resting = false
	m.ready(q)
}

// Resting reports whether the queue offers nothing for now.
func (q *Queue) Resting() bool { return q.resting }
