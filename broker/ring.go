package broker

// ring is a first-in-first-out queue that gives its memory back when empty:
// ten thousand idle clients must not keep the buffers of their last burst, and
// one that never had anything costs a pointer. Its owner bounds its length.
type ring[T any] struct{ in *ringItems[T] }

type ringItems[T any] struct {
	items []T
	head  int
}

func (r *ring[T]) len() int {
	if r.in == nil {
		return 0
	}
	return len(r.in.items) - r.in.head
}

func (r *ring[T]) front() *T { return &r.in.items[r.in.head] }

func (r *ring[T]) push(v T) {
	if r.in == nil {
		r.in = new(ringItems[T])
	}
	q := r.in
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (r *ring[T]) pop() T {
	var zero T
	q := r.in
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	if q.head == len(q.items) {
		q.head = 0
		if q.items = q.items[:0]; cap(q.items) > 64 {
			r.in = nil
		}
	}
	return v
}
