package cbor

// Skip steps over one well-formed item of any type (RFC 8949, appendix C) and
// fails when it is nested deeper than MaxDepth.
func (r *Reader) Skip() { r.skip(0) }

// SkipN steps over n items.
func (r *Reader) SkipN(n int) {
	for i := 0; i < n && r.err == nil; i++ {
		r.Skip()
	}
}

func (r *Reader) skip(depth int) {
	switch {
	case r.err != nil:
		return
	case r.off >= len(r.b) || r.b[r.off] == byteBreak:
		r.Fail(r.Offset(), "want an item, found "+kindNames[r.Peek()])
		return
	case depth > MaxDepth:
		r.Fail(r.Offset(), "nested too deep")
		return
	case r.b[r.off] < 24: // a small integer, which most items are
		r.off++
		return
	}
	at, head := r.Offset(), r.b[r.off]
	major := head >> 5
	if head&0x1f == 31 {
		r.skipIndefinite(major, depth)
		return
	}
	n, ok := r.arg()
	if !ok {
		return
	}
	switch major {
	case majorBytes, majorText:
		if n > uint64(r.Len()) {
			r.Fail(at, "a string longer than the data")
			return
		}
		r.off += int(n)
	case majorArray, majorMap:
		if n > uint64(r.Len()) {
			r.Fail(at, "more items than bytes")
			return
		}
		if major == majorMap {
			n *= 2
		}
		for i := uint64(0); i < n && r.err == nil; i++ {
			r.skip(depth + 1)
		}
	case majorTag:
		r.skip(depth + 1)
	case majorSimple:
		if head&0x1f == 24 && n < 32 {
			r.Fail(at, "a simple value in two bytes that fits one")
		}
	}
}

// skipIndefinite steps over an item of indefinite length and its break.
func (r *Reader) skipIndefinite(major byte, depth int) {
	at := r.Offset()
	r.off++
	switch major {
	case majorBytes, majorText: // chunks of the same type and definite length
		for r.err == nil && !r.Break() {
			r.str(major)
		}
	case majorArray:
		for r.err == nil && !r.Break() {
			r.skip(depth + 1)
		}
	case majorMap:
		for r.err == nil && !r.Break() {
			r.skip(depth + 1)
			r.skip(depth + 1)
		}
	default:
		r.Fail(at, "a type that has no indefinite length")
	}
}
