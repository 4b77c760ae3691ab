package node

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What a burst leaves behind, thousands of devices that connect or a backlog
// that drains, is garbage that the runtime collects when as much again was
// allocated. A node that went quiet may keep twice what it needs for as long as
// it stays quiet, on boxes that have little. So it collects once more then, and
// gives the memory back. Under load nothing of this happens, and the collector
// goes its own pace.
const (
	restEvery  = 5 * time.Second
	restRate   = 1 << 20 // bytes a second that a quiet node may allocate
	restWorth  = 4 << 20 // bytes of garbage that are worth a collection
	restFactor = 8       // so is this part of what lives, since all that has to be walked
	restBurst  = 64 << 20
)

// The last collection may have come in the middle of the burst, a start with
// much to read among them, and taken for living what was needed for a moment.
// So a collection is due, too, when much was allocated since the last one of
// rest: restBurst, and half of what is said to live.

// heapUse is what the runtime knows of the heap, in bytes.
type heapUse struct {
	allocated uint64 // in all since the start
	objects   uint64 // living and garbage
	live      uint64 // what the last collection left
}

// rest gives memory back whenever the node is quiet, until ctx ends.
func rest(ctx context.Context, read func() heapUse, release func()) {
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	last, done := read(), uint64(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := read()
		quiet := now.allocated-last.allocated < restRate*uint64(restEvery/time.Second)
		garbage := now.objects > now.live+max(restWorth, now.live/restFactor)
		burst := now.allocated-done > max(restBurst, now.live/2)
		if last = now; quiet && (garbage || burst) {
			done = now.allocated
			release()
		}
	}
}

// readHeap reads it without stopping anything.
func readHeap() heapUse {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return heapUse{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()}
}

// giveBack collects garbage and returns free memory to the system.
func giveBack() { debug.FreeOSMemory() }
