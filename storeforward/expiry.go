package storeforward

import "github.com/farhop/farhop/storeforward/store"

// newExpiry orders windowed items by the end of their life. Items beyond a
// window are looked at when they enter it.
func newExpiry() heap[*Item] {
	return heap[*Item]{
		less: func(a, b *Item) bool { return a.ends() < b.ends() },
		at:   func(i *Item) *int { return &i.expiry },
	}
}

// ends is when the item's life is over, in ms. An obituary is kept as long as
// the message was, and a minute at least: a consumer that hears of it no more
// waits its gap out.
func (i *Item) ends() int64 {
	h := i.Header
	if i.Entry.State == store.Ended {
		return h.Expires + max(h.Expires-h.Received, 60_000)
	}
	return h.Expires
}

// Due returns the windowed item whose life ended at or before now (ms), nil
// when there is none. The caller must Release or Bury it, or call Outlive.
func (m *Machine) Due(now int64) *Item {
	if m.expiry.len() == 0 || m.expiry.s[0].ends() > now {
		return nil
	}
	return m.expiry.s[0]
}

// NextExpiry returns when the next windowed item's life ends, in ms.
func (m *Machine) NextExpiry() (ms int64, ok bool) {
	if m.expiry.len() == 0 {
		return 0, false
	}
	return m.expiry.s[0].ends(), true
}

// Outlive takes an item out of the watch for expiry: it is in flight and
// judged again when it returns, or it is its own obituary.
func (m *Machine) Outlive(i *Item) { m.expiry.remove(i) }
