package dtn

import "sync"

// budget bounds the received bytes a Door holds. Bytes are taken while a
// transfer arrives and given back when its verdict is final.
//
// When it is used up, what helps is a commit: transfers that are complete and
// wait for one will give their bytes back, so a taker waits. When there is no
// such transfer, waiting could last for ever, each session holding a part of
// what the others need: then the taker is refused.
type budget struct {
	mu      sync.Mutex
	total   int64
	used    int64
	pending int64         // of used: complete, waiting for their commit
	changed chan struct{} // closed when bytes come back; nil while nobody waits
}

func newBudget(total int64) *budget {
	return &budget{total: total}
}

// take takes n bytes. It reports false when there are none to wait for, or
// when quit is closed.
func (b *budget) take(n int64, quit <-chan struct{}) bool {
	for {
		b.mu.Lock()
		if b.used+n <= b.total {
			b.used += n
			b.mu.Unlock()
			return true
		}
		if b.pending == 0 {
			b.mu.Unlock()
			return false
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-quit:
			return false
		}
	}
}

// complete marks n taken bytes as waiting for a commit.
func (b *budget) complete(n int64) {
	b.mu.Lock()
	b.pending += n
	b.mu.Unlock()
}

// give returns n bytes; complete says that they were marked so.
func (b *budget) give(n int64, complete bool) {
	b.mu.Lock()
	b.used -= n
	if complete {
		b.pending -= n
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	b.mu.Unlock()
}

func (b *budget) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
