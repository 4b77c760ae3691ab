package broker

// ring is a first-in-first-out queue that gives its memory back when empty:
// ten thousand idle clients must not keep the buffers of their last burst.
// Its owner bounds its length.
type ring[T any] struct {
	items []T
	head  int
}

func (r *ring[T]) len() int { return len(r.items) - r.head }

func (r *ring[T]) front() *T { return &r.items[r.head] }

func (r *ring[T]) push(v T) {
	if r.head > 64 && r.head > len(r.items)/2 {
		n := copy(r.items, r.items[r.head:])
		clear(r.items[n:])
		r.items, r.head = r.items[:n], 0
	}
	r.items = append(r.items, v)
}

func (r *ring[T]) pop() T {
	var zero T
	v := r.items[r.head]
	r.items[r.head] = zero
	r.head++
	if r.head == len(r.items) {
		r.head = 0
		if cap(r.items) > 64 {
			r.items = nil
		} else {
			r.items = r.items[:0]
		}
	}
	return v
}
