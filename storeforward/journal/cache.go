package journal

import (
	"container/list"
	"sync"
)

const (
	pageStep   = 4 << 10  // buffers of pages are multiples of it
	maxSpare   = 64 << 10 // the largest buffer that is used again
	sparePages = 8
)

// cache keeps pages that were read lately, by bytes, and the memory of those
// that nobody uses any more.
type cache struct {
	limit   int
	readers sync.Pool // of *pageReader
	ahead   *ahead

	mu    sync.Mutex
	size  int
	pages map[pageKey]*list.Element
	order *list.List // of *page, latest first
	spare []*page
}

// newCache makes a cache of limit bytes, a quarter of them for what is read
// ahead.
func newCache(limit int) *cache {
	return &cache{
		limit: limit - limit/4, ahead: newAhead(limit / 4),
		readers: sync.Pool{New: func() any { return new(pageReader) }},
		pages:   map[pageKey]*list.Element{}, order: list.New(),
	}
}

// get returns the page of a sample if it is there as the sample is now. The
// caller releases it.
func (c *cache) get(k pageKey, n uint32) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.pages[k]
	if el == nil || len(el.Value.(*page).buf) != int(n) {
		return nil
	}
	c.order.MoveToFront(el)
	p := el.Value.(*page)
	p.users++
	return p
}

// blank returns a page of n bytes to be filled. The caller releases it.
func (c *cache) blank(n int) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &page{}
	if last := len(c.spare) - 1; last >= 0 {
		p, c.spare = c.spare[last], c.spare[:last]
	}
	if cap(p.buf) < n {
		p.buf = make([]byte, (n+pageStep-1)/pageStep*pageStep)
	}
	p.buf, p.users = p.buf[:n], 1
	return p
}

// put adds a page that was filled, which its caller still has to release.
func (c *cache) put(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.pages[p.key]; el != nil {
		c.remove(el)
	}
	c.pages[p.key] = c.order.PushFront(p)
	p.users++
	c.size += p.size()
	for c.size > c.limit && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	p := c.order.Remove(el).(*page)
	delete(c.pages, p.key)
	c.size -= p.size()
	c.drop(p)
}

func (c *cache) release(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(p)
}

// drop ends one use of a page.
func (c *cache) drop(p *page) {
	if p.users--; p.users > 0 {
		return
	}
	if p.idle != nil {
		c.readers.Put(p.idle)
		p.idle = nil
	}
	if len(c.spare) < sparePages && cap(p.buf) <= maxSpare {
		c.spare = append(c.spare, p)
	}
}

// reader returns a reader of a page that is not beyond seq. The caller's use
// of the page becomes the reader's.
func (c *cache) reader(p *page, seq uint64) *pageReader {
	c.mu.Lock()
	r := p.idle
	if r != nil && r.some && r.rec.seq <= seq {
		p.idle = nil
		c.mu.Unlock()
		return r
	}
	c.mu.Unlock()
	r = c.readers.Get().(*pageReader)
	r.start(p)
	return r
}

// end ends the use of a reader and of its page. It stays with the page as it
// is: messages are mostly read in their order, and each would be looked for
// from the start.
func (c *cache) end(r *pageReader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := r.page
	r.bad = nil
	if p.idle != nil {
		c.readers.Put(p.idle)
	}
	p.idle = r
	c.drop(p)
}

// aheadSlots is how many payloads are kept ahead at most; a power of two.
const aheadSlots = 1 << aheadBits

const aheadBits = 12

// ahead keeps payloads that Scan came past, for the Read that is likely to
// follow: reading many interleaved queues in turn, it would have to fetch the
// page again. The bytes were checked with their page, and those of a message
// never change; whether it still waits is for the queue to say.
type ahead struct {
	limit int

	mu    sync.Mutex
	size  int
	hand  int
	slots []aheadSlot
}

type aheadSlot struct {
	seq     uint64 // 0: free
	queue   *queue // that was scanned
	payload []byte
}

func newAhead(limit int) *ahead { return &ahead{limit: limit} }

// slot is where a message goes, whoever is there.
func (a *ahead) slot(seq uint64) *aheadSlot {
	return &a.slots[seq*0x9e3779b97f4a7c15>>(64-aheadBits)]
}

func (a *ahead) clear(s *aheadSlot) {
	a.size -= len(s.payload)
	*s = aheadSlot{}
}

// keep remembers a payload, which is copied.
func (a *ahead) keep(q *queue, seq uint64, payload []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.slots == nil {
		a.slots = make([]aheadSlot, aheadSlots)
	}
	s := a.slot(seq)
	if s.seq == seq && s.queue == q {
		return
	}
	a.clear(s)
	for a.size+len(payload) > a.limit && a.size > 0 {
		a.clear(&a.slots[a.hand])
		a.hand = (a.hand + 1) % aheadSlots
	}
	*s = aheadSlot{seq, q, append(make([]byte, 0, len(payload)), payload...)}
	a.size += len(payload)
}

// take returns a payload and forgets it: it is the caller's. The queue is the
// one in which the message waited.
func (a *ahead) take(seq uint64) (payload []byte, q *queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.slots == nil {
		return nil, nil
	}
	s := a.slot(seq)
	if s.seq != seq {
		return nil, nil
	}
	payload, q = s.payload, s.queue
	a.clear(s)
	return payload, q
}
