package storeforward

// heap is a binary min-heap whose members know their place, so that they can
// be moved and removed.
type heap[T any] struct {
	s    []T
	less func(a, b T) bool
	at   func(T) *int // where a member keeps its place, -1 when it is out
}

func (h *heap[T]) len() int { return len(h.s) }

func (h *heap[T]) push(v T) {
	*h.at(v) = len(h.s)
	h.s = append(h.s, v)
	h.up(len(h.s) - 1)
}

// fix restores the order after the key of v changed.
func (h *heap[T]) fix(v T) {
	h.up(*h.at(v))
	h.down(*h.at(v))
}

// remove takes v out; its key is not looked at. Out already is fine.
func (h *heap[T]) remove(v T) {
	i, n := *h.at(v), len(h.s)-1
	if i < 0 {
		return
	}
	h.swap(i, n)
	var zero T
	h.s[n] = zero
	h.s = h.s[:n]
	*h.at(v) = -1
	if i < n {
		h.up(i)
		h.down(i)
	}
}

func (h *heap[T]) swap(a, b int) {
	h.s[a], h.s[b] = h.s[b], h.s[a]
	*h.at(h.s[a]), *h.at(h.s[b]) = a, b
}

func (h *heap[T]) up(i int) {
	for i > 0 && h.less(h.s[i], h.s[(i-1)/2]) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *heap[T]) down(i int) {
	for {
		c := 2*i + 1
		if c+1 < len(h.s) && h.less(h.s[c+1], h.s[c]) {
			c++
		}
		if c >= len(h.s) || !h.less(h.s[c], h.s[i]) {
			return
		}
		h.swap(i, c)
		i = c
	}
}
