package bridge

import (
	"sync"
	"time"
)

// table counts keys it was told of lately. It holds at most limit keys in two
// halves: when the young half is full, or half the time is over, it becomes
// the old half and what was old is forgotten. A key stays for half the time at
// least, unless others crowd it out. Safe for concurrent use.
type table[K comparable] struct {
	limit int
	keep  time.Duration

	mu         sync.Mutex
	young, old map[K]int
	age        time.Duration // of the young half
	forgotten  uint64        // keys that had to go before their time
}

func newTable[K comparable](limit int, keep time.Duration) *table[K] {
	return &table[K]{limit: limit, keep: keep, young: make(map[K]int), old: make(map[K]int)}
}

// pass lets time go by. The caller decides which time counts.
func (t *table[K]) pass(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.age += d; t.age >= t.keep/2 {
		t.turn()
	}
}

func (t *table[K]) turn() {
	t.old, t.young, t.age = t.young, make(map[K]int), 0
}

// add counts k once more.
func (t *table[K]) add(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.old[k]; n > 0 {
		t.young[k] += n
		delete(t.old, k)
	}
	t.young[k]++
	if len(t.young) >= t.limit/2 {
		t.forgotten += uint64(len(t.old))
		t.turn()
	}
}

// has reports whether k is there.
func (t *table[K]) has(k K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.young[k] > 0 || t.old[k] > 0
}

// take counts k once less and reports whether it was there.
func (t *table[K]) take(k K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range []map[K]int{t.old, t.young} {
		switch n := m[k]; {
		case n > 1:
			m[k] = n - 1
			return true
		case n == 1:
			delete(m, k)
			return true
		}
	}
	return false
}

// clear forgets all.
func (t *table[K]) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn()
	t.turn()
}

func (t *table[K]) lost() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.forgotten
}
