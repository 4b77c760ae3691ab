package routing

// heap gives back the least of what was put into it first.
type heap[T lesser[T]] []T

type lesser[T any] interface{ less(T) bool }

func (h *heap[T]) push(v T) {
	*h = append(*h, v)
	s, i := *h, len(*h)-1
	for i > 0 && s[i].less(s[(i-1)/2]) {
		s[i], s[(i-1)/2] = s[(i-1)/2], s[i]
		i = (i - 1) / 2
	}
}

func (h *heap[T]) pop() T {
	s := *h
	top, n := s[0], len(s)-1
	s[0] = s[n]
	s = s[:n]
	*h = s
	for i := 0; ; {
		c := 2*i + 1
		if c+1 < n && s[c+1].less(s[c]) {
			c++
		}
		if c >= n || !s[c].less(s[i]) {
			return top
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
}
