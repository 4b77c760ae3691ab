package mux

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"testing"
)

// checked is where WriteTo writes to. It looks at what the peer may send while
// bytes are not taken yet, and fails after so many.
type checked struct {
	t     *testing.T
	s     *Stream
	left  int
	bytes []byte
}

var errEnough = errors.New("enough")

func (c *checked) Write(p []byte) (int, error) {
	c.s.c.mu.Lock()
	if may := c.s.granted + int64(c.s.held+len(p)); may > c.s.window {
		c.t.Errorf("%d bytes are here or may come, of a window of %d", may, c.s.window)
	}
	c.s.c.mu.Unlock()
	n := min(len(p), c.left)
	c.left -= n
	c.bytes = append(c.bytes, p[:n]...)
	if n < len(p) {
		return n, errEnough
	}
	return n, nil
}

func TestWriteTo(t *testing.T) {
	near, far := pair(t, usual(), usual())
	data := make([]byte, 20<<20)
	_, _ = rand.Read(data)
	for _, most := range []int{len(data), len(data) / 3, 0} {
		out := must(near.OpenStream(t.Context()))(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := out.Write(data)
			if err := errors.Join(err, out.Close()); (err != nil) != (most < len(data)) {
				t.Errorf("write, of which %d are taken: %v", most, err)
			}
		})
		in := must(far.AcceptStream(t.Context()))(t)
		c := &checked{t: t, s: in, left: most}
		n, err := in.WriteTo(c)
		if want := errEnough; most < len(data) && !errors.Is(err, want) || most == len(data) && err != nil {
			t.Errorf("%d bytes: %v", most, err)
		}
		if n != int64(most) || sha256.Sum256(c.bytes) != sha256.Sum256(data[:most]) {
			t.Errorf("%d bytes of %d, or others", n, most)
		}
		in.Reset(1)
		wg.Wait()
		_, _ = io.Copy(io.Discard, out)
		out.Reset(1)
	}
	for _, c := range []*Conn{near, far} {
		c.mu.Lock()
		if len(c.streams) != 0 || c.spare != spareWindow {
			t.Errorf("%d streams and %d spare are left", len(c.streams), c.spare)
		}
		c.mu.Unlock()
	}
}
