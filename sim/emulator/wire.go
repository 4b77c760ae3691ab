package emulator

import "container/heap"

// wire holds the packets that are queued or under way, by arrival and then by
// offer. Nearly all come in order and stand in line; only what is reordered, or
// overtakes after the path became shorter, has to be sorted.
type wire struct {
	line []*packet // in order
	odd  packetHeap
}

func (w *wire) len() int { return len(w.line) + len(w.odd) }

func (w *wire) push(p *packet) {
	if n := len(w.line); !p.fate.held && (n == 0 || w.line[n-1].ahead(p)) {
		w.line = append(w.line, p)
		return
	}
	heap.Push(&w.odd, p)
}

// first is the packet that arrives next, nil if there is none.
func (w *wire) first() *packet {
	switch {
	case len(w.line) == 0 && len(w.odd) == 0:
		return nil
	case len(w.odd) == 0 || (len(w.line) > 0 && w.line[0].ahead(w.odd[0])):
		return w.line[0]
	}
	return w.odd[0]
}

// pop takes out first.
func (w *wire) pop() *packet {
	p := w.first()
	switch {
	case p == nil:
	case len(w.line) > 0 && p == w.line[0]:
		w.line[0] = nil // append copies what is left before the slice runs out
		w.line = w.line[1:]
	default:
		heap.Pop(&w.odd)
	}
	return p
}

// take removes all packets for which f holds and returns them, in no order.
func (w *wire) take(f func(*packet) bool) (out []*packet) {
	was := *w
	*w = wire{}
	for _, list := range [][]*packet{was.line, was.odd} {
		for _, p := range list {
			if f(p) {
				out = append(out, p)
			} else {
				w.push(p)
			}
		}
	}
	return out
}

// ahead reports whether p arrives before q.
func (p *packet) ahead(q *packet) bool {
	if c := p.arrive.Compare(q.arrive); c != 0 {
		return c < 0
	}
	return p.seq < q.seq
}

// packetHeap is what has to be sorted.
type packetHeap []*packet

func (h packetHeap) Len() int           { return len(h) }
func (h packetHeap) Less(i, j int) bool { return h[i].ahead(h[j]) }
func (h packetHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *packetHeap) Push(x any) { *h = append(*h, x.(*packet)) }

// Pop implements heap.Interface.
func (h *packetHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
