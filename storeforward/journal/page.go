package journal

import (
	"fmt"
	"hash/crc32"

	"github.com/farhop/farhop/storeforward/vfs"
)

// page is the blocks of one sample as they are in the file, checked. What is
// asked for is decoded each time (pageReader): a page of many small messages
// is mostly read for one of them.
type page struct {
	key    pageKey
	buf    []byte
	blocks []pageBlock
	bad    []badSpan // places without a valid block

	users int         // the cache is one of them, and guards it
	idle  *pageReader // likewise; nil or one that nobody uses
}

type pageKey struct {
	nonce uint64
	off   uint32
}

// pageBlock is one block of a page.
type pageBlock struct {
	at, body int // of the head in the page; bytes of the body behind it
	tail     int // bytes of the tail, which may lie outside of the page
	sum      uint32
}

// tailRef is where a large value is.
type tailRef struct {
	off int64
	n   int
	sum uint32
}

// badSpan is a part of a page without a valid block.
type badSpan struct {
	off, n int64
}

// size is what the page takes in RAM with a reader, more or less.
func (p *page) size() int { return 6<<10 + cap(p.buf) + 32*cap(p.blocks) }

// read fills the page with the blocks of a sample.
func (p *page) read(f vfs.File, head *segHead, sm sample) error {
	p.key, p.blocks, p.bad = pageKey{head.nonce, sm.off}, p.blocks[:0], nil
	if err := readAt(f, p.buf, int64(sm.off)); err != nil {
		return err
	}
	seed := head.seed()
	for at := 0; at < len(p.buf); {
		h, err := parseBlockHead(p.buf[at:], 1<<62)
		if err != nil || !bodySound(p.buf[at:], seed, &h) {
			next := findBlock(p.buf, at+1, seed)
			p.bad = append(p.bad, badSpan{int64(sm.off) + int64(at), int64(next - at)})
			at = next
			continue
		}
		p.blocks = append(p.blocks, pageBlock{at, h.body, h.tail, h.tailSum})
		at += int(h.size())
	}
	return nil
}

// pageReader walks the puts of a page. What it returns aliases the page.
type pageReader struct {
	page *page
	next int // block to be read
	dec  decoder
	rec  record
	some bool      // rec is a put
	bad  []badSpan // blocks found to make no sense, although their checksum holds
}

func (r *pageReader) start(p *page) {
	r.page, r.next, r.some, r.bad = p, 0, false, nil
	r.dec.start(nil, 0)
}

// seek goes on to message seq, and reports whether it is there: rec and names
// have it then. A reader does not go back.
func (r *pageReader) seek(seq uint64) bool {
	for !r.some || r.rec.seq < seq {
		if !r.step() {
			return false
		}
	}
	return r.rec.seq == seq
}

// step reads the next put.
func (r *pageReader) step() bool {
	for {
		for r.dec.next(&r.rec) {
			if r.some = r.rec.kind == recPut; r.some {
				return true
			}
		}
		r.some = false
		if r.dec.err != nil {
			b := &r.page.blocks[r.next-1]
			r.bad = append(r.bad, badSpan{int64(r.page.key.off) + int64(b.at), int64(blockHeadLen + b.body)})
			r.dec.start(nil, 0)
		}
		if r.next == len(r.page.blocks) {
			return false
		}
		b := &r.page.blocks[r.next]
		r.next++
		body := b.at + blockHeadLen
		r.dec.start(r.page.buf[body:body+b.body], b.tail)
	}
}

// tail is where the tail of the block of rec is.
func (r *pageReader) tail() *tailRef {
	b := &r.page.blocks[r.next-1]
	return &tailRef{int64(r.page.key.off) + int64(b.at+blockHeadLen+b.body), b.tail, b.sum}
}

// findBlock returns where the next valid block begins at or after from, or
// len(buf).
func findBlock(buf []byte, from int, seed uint32) int {
	for at := from; ; at++ {
		i := indexMagic(buf[min(at, len(buf)):])
		if i < 0 {
			return len(buf)
		}
		at += i
		if h, err := parseBlockHead(buf[at:], 1<<62); err == nil && bodySound(buf[at:], seed, &h) {
			return at
		}
	}
}

// readTail reads a large value; errBlock when it is not what was written.
func readTail(f vfs.File, t *tailRef) ([]byte, error) {
	b := make([]byte, t.n)
	if err := readAt(f, b, t.off); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != t.sum {
		return nil, errBlock
	}
	return b, nil
}

// readAt reads all of b. What is beyond the end of the file counts as damage.
func readAt(f vfs.File, b []byte, off int64) error {
	if n, err := f.ReadAt(b, off); n < len(b) {
		return fmt.Errorf("%w: %w", errBlock, err)
	}
	return nil
}
