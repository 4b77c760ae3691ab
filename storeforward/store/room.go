package store

// Room is told by an engine how far its owner may go: limit is a sum of
// Batch.Cost over all batches since Open, those to come included. What an owner
// hands over within it finds room for certain, or almost: space that nobody
// holds is counted while there is much of it, and less and less is promised of
// it as the disk fills up. Beyond the limit a batch with puts may be refused
// with ErrFull; one that ends messages, with small changes of state, still
// passes, from a reserve.
//
// The limit rises as batches turn out smaller than their cost, as messages end
// and as the disk gets room again, and falls when somebody else fills the disk.
// The newest call counts. Engines call it from any goroutine, one call at a
// time, the first one before Open returns; it must not block or call the store.
type Room func(limit int64)

// What records take beside names, frozen blocks, payloads and values, at most.
const (
	PutBytes   = 160
	EntryBytes = 48
	markBytes  = 32
	setBytes   = 80
)

// Cost is what a batch counts for Room: the bytes that it takes on disk,
// estimated on the high side.
func (b *Batch) Cost() (n int64) {
	for i := range b.Puts {
		n += b.Puts[i].Cost()
	}
	return n + b.CostBesidePuts()
}

// CostBesidePuts is the part of Cost that ends messages and changes the State.
func (b *Batch) CostBesidePuts() int64 {
	n := dropsCost(b.Drops)
	for i := range b.Marks {
		n += markBytes + int64(len(b.Marks[i].Queue.Name))
	}
	for i := range b.Sets {
		n += b.Sets[i].Cost()
	}
	return n
}

// Cost is the part of one message; 0 without a Header, which is refused.
func (p *Put) Cost() int64 {
	h := p.Header
	if h == nil {
		return 0
	}
	n := PutBytes + len(h.Message.Node.String()) + len(h.Origin.String()) + len(h.Prev.String()) +
		len(h.Topic) + len(h.Service) + len(h.Charge)
	if p.Blob != nil {
		n += len(p.Blob.B)
	} else if p.From != 0 {
		n += int(h.Size)
	}
	for i := range h.Entries {
		n += EntryBytes + len(h.Entries[i].Queue.Name) + len(h.Entries[i].Frozen)
	}
	return int64(n)
}

// Cost is the part of one key.
func (s *Set) Cost() int64 {
	n := setBytes + len(s.Key) + len(s.Value)
	if s.Blob != nil {
		n += len(s.Blob.B)
	}
	return int64(n)
}

// dropsCost is closer: there may be many, on a disk that is full.
func dropsCost(drops []Drop) (n int64) {
	var last Drop
	for i := range drops {
		d := &drops[i]
		n += 12
		if d.Queue != last.Queue {
			n += 8 + int64(len(d.Queue.Name))
		}
		if i == 0 || d.Seq-last.Seq > 1<<12 {
			n += 8
		}
		last = *d
	}
	return n
}
