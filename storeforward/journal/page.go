package journal

import (
	"container/list"
	"fmt"
	"hash/crc32"
	"sort"
	"sync"

	"github.com/farhop/farhop/storeforward/store"
	"github.com/farhop/farhop/storeforward/vfs"
)

// page is the blocks of one sample, checked and decoded. It never changes.
type page struct {
	key     pageKey
	n       uint32 // of the sample when it was read
	size    int    // in RAM, more or less
	recs    []pageRecord
	entries []entryRecord // of recs
	bad     []badSpan     // places that cannot be read
}

type pageKey struct {
	nonce uint64
	off   uint32
}

// pageRecord is one message as it was put.
type pageRecord struct {
	putFields
	names *nameLists
	off   int64 // of the tail
	sum   uint32
	bytes int // of the tail
}

func (r *pageRecord) lost() bool { return r.flags1&putLost != 0 }

// head makes the header, with all entries in their first state.
func (r *pageRecord) head() (*store.Header, error) { return r.names.header(&r.putFields) }

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

// find returns the record of a message.
func (p *page) find(seq uint64) *pageRecord {
	i := sort.Search(len(p.recs), func(i int) bool { return p.recs[i].seq >= seq })
	if i < len(p.recs) && p.recs[i].seq == seq {
		return &p.recs[i]
	}
	return nil
}

// readPage reads the blocks of a sample.
func readPage(f vfs.File, head *segHead, sm sample) (*page, error) {
	buf := make([]byte, sm.n)
	if err := readAt(f, buf, int64(sm.off)); err != nil {
		return nil, err
	}
	p := &page{key: pageKey{head.nonce, sm.off}, n: sm.n, size: int(sm.n)}
	seed := head.seed()
	for at := 0; at < len(buf); {
		h, err := parseBlockHead(buf[at:], 1<<62)
		if err == nil && (!bodySound(buf[at:], seed, &h) || !p.decode(buf[at+blockHeadLen:at+blockHeadLen+h.body], int64(sm.off)+int64(at), &h)) {
			err = errBlock
		}
		if err != nil {
			next := findBlock(buf, at+1, seed)
			p.bad = append(p.bad, badSpan{int64(sm.off) + int64(at), int64(next - at)})
			at = next
			continue
		}
		at += int(h.size())
	}
	return p, nil
}

// decode adds the messages of one block; false when its records make no sense.
func (p *page) decode(body []byte, off int64, h *blockHead) bool {
	var d decoder // the page keeps its lists
	d.start(body, h.tail)
	var r record
	n := len(p.recs)
	for d.next(&r) {
		if r.kind != recPut {
			continue
		}
		rec := pageRecord{putFields: r.putFields, off: off + blockHeadLen + int64(h.body), sum: h.tailSum, bytes: h.tail}
		p.entries = append(p.entries, r.entries...)
		rec.entries = p.entries[len(p.entries)-len(r.entries):]
		p.recs = append(p.recs, rec)
	}
	if d.err != nil {
		p.recs = p.recs[:n]
		return false
	}
	names := d.nameLists
	for i := n; i < len(p.recs); i++ {
		p.recs[i].names = &names
	}
	p.size += (len(p.recs)-n)*150 + len(p.entries)*60 + len(names.nodes)*24 + len(names.texts)*24 + len(names.queues)*56
	return true
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

// cache keeps pages that were read lately, so that draining many interleaved
// queues does not read each page once per queue.
type cache struct {
	limit int

	mu    sync.Mutex
	size  int
	pages map[pageKey]*list.Element
	order *list.List // of *page, latest first
}

func newCache(limit int) *cache {
	return &cache{limit: limit, pages: map[pageKey]*list.Element{}, order: list.New()}
}

// get returns the page of a sample if it is there as the sample is now.
func (c *cache) get(k pageKey, n uint32) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.pages[k]
	if el == nil || el.Value.(*page).n != n {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(*page)
}

func (c *cache) put(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.pages[p.key]; el != nil {
		c.remove(el)
	}
	c.pages[p.key] = c.order.PushFront(p)
	c.size += p.size
	for c.size > c.limit && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	p := c.order.Remove(el).(*page)
	delete(c.pages, p.key)
	c.size -= p.size
}
