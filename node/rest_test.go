package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestRest: memory is given back once the node is quiet, when it is worth it,
// and never under load.
func TestRest(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name     string
		rate     uint64 // bytes allocated per turn
		use      heapUse
		released bool
	}{
		{"quiet after a burst", 0, heapUse{objects: 80 * mib, live: 45 * mib}, true},
		{"devices say something now and then", 4 * mib, heapUse{objects: 80 * mib, live: 45 * mib}, true},
		{"under load", 6 * mib, heapUse{objects: 80 * mib, live: 45 * mib}, false},
		{"not worth it", 0, heapUse{objects: 48 * mib, live: 45 * mib}, false},
		{"a burst that was collected in its middle", 0, heapUse{allocated: 1500 * mib, objects: 1100 * mib, live: 1000 * mib}, true},
		{"not worth it with so much that lives", 0, heapUse{objects: 1100 * mib, live: 1000 * mib}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), 4*restEvery+time.Second)
				defer stop()
				use, released := c.use, 0
				rest(ctx, func() heapUse { use.allocated += c.rate; return use }, func() { released++; use.objects = use.live })
				if want := map[bool]int{true: 1}[c.released]; released != want {
					t.Errorf("released %d times, want %d", released, want)
				}
			})
		})
	}
}

// TestReadHeap: the runtime knows these figures by these names.
func TestReadHeap(t *testing.T) {
	giveBack()
	if u := readHeap(); u.allocated == 0 || u.objects == 0 || u.live == 0 {
		t.Errorf("got %+v", u)
	}
}
