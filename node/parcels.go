package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/node/parcel"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// parcelDir holds a file of bundles while it is judged and taken in.
const parcelDir = "parcel"

// importBatch is how many bundles, or bytes of them, are taken in at once.
const (
	importBatch = 256
	importBytes = 8 << 20
)

// maxUnderWay is how long a file may have been under way, for its signer's
// certificate is judged as of when it was made.
const maxUnderWay = 90 * 24 * time.Hour

// parcels lets one file at a time be read or written.
type parcels struct{ mu sync.Mutex }

func (p *parcels) begin() error {
	if !p.mu.TryLock() {
		return admin.NotHere("wait for it to end", "another file of bundles is being read or written")
	}
	return nil
}

// ExportBundles implements admin.Backend.
func (b backend) ExportBundles(ctx context.Context, r admin.ExportRequest, w io.Writer) error {
	classes, err := parseClasses(r.Class)
	if err != nil || r.MaxBytes < 0 {
		return admin.Invalid("", "%v", errors.Join(err, fmt.Errorf("max_bytes: %d", r.MaxBytes)))
	}
	if err := b.n.parcels.begin(); err != nil {
		return err
	}
	defer b.n.parcels.mu.Unlock()
	v, err := b.n.loop.view(ctx)
	if err != nil {
		return err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	self := b.n.material.Self()
	e := &exporter{b: b, most: r.MaxBytes}
	e.out, err = parcel.NewWriter(w, parcel.Bundles, parcel.Header{
		ID: hex.EncodeToString(id[:]), Node: self.Node, Store: b.n.store.Incarnation(), Created: b.n.loop.clock.now().UTC(), Dated: b.n.clockOK,
	})
	for _, class := range classes { // the most urgent first: a file may be full
		for _, q := range v.Queues {
			if err == nil && q.Queue.Class == class && b.leaves(q.Queue) && (r.To == "" || q.Queue.Name == r.To) {
				err = e.queue(ctx, q.Queue)
			}
		}
	}
	if err != nil && !errors.Is(err, parcel.ErrFull) {
		return err
	}
	b.n.log.Info("bundles written to a file by an operator", "file", hex.EncodeToString(id[:]), "count", e.out.Count(), "to", r.To)
	return e.out.End(b.sign)
}

// leaves reports whether what is in a queue is for other nodes.
func (b backend) leaves(q store.Queue) bool {
	if q.Kind != store.ToRegion {
		return q.Kind == store.ToNode
	}
	r, err := addr.ParseRegion(q.Name)
	return err == nil && !r.Contains(b.n.material.Self().Region)
}

func (b backend) sign(digest []byte) ([]byte, error) {
	return b.n.material.Sign(parcel.Context, digest)
}

// verify judges who signed a file.
func (b backend) verify(h parcel.Header, digest, signature []byte) error {
	if now := b.n.loop.clock.forCertificates(); h.Created.Before(now.Add(-maxUnderWay)) && b.n.clockOK {
		return fmt.Errorf("made %s, longer ago than %v", h.Created.UTC().Format(time.RFC3339), maxUnderWay)
	}
	return b.n.material.Trust.VerifySigned(parcel.Context, digest, signature, h.Node, h.Created)
}

// exporter writes queues to a file.
type exporter struct {
	b    backend
	out  *parcel.Writer
	most int64
	buf  []byte
}

func (e *exporter) queue(ctx context.Context, q store.Queue) error {
	for after := uint64(0); ; {
		items, err := e.b.n.store.Scan(q, after, scanPage)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		for _, it := range items {
			if err := e.item(it); err != nil {
				return err
			}
		}
		if len(items) < scanPage {
			return nil
		}
		after = items[len(items)-1].Header.Seq
	}
}

// item writes one bundle, as a link would send it now.
func (e *exporter) item(it store.Item) error {
	h := it.Header
	life := int64(0)
	if !it.Damaged {
		life = h.Expires - e.b.n.loop.clock.now().UnixMilli()
	}
	if it.Damaged || it.Entry.State != store.Pending || life <= 0 || len(it.Entry.Frozen) == 0 {
		return nil
	}
	payload, err := e.b.n.store.Read(h.Seq)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDamaged):
		return nil // gone meanwhile, or told by whoever sends it
	case err != nil:
		return err
	}
	hop := bundle.Hop{Prev: addr.NodeEID(e.b.n.material.Self().Node, ""), Age: age(it.Entry.Frozen, life), HopLimit: core.MaxHops, HopCount: h.Hops}
	e.buf = bundle.AppendBundle(e.buf[:0], it.Entry.Frozen, payload, hop)
	if e.most > 0 && e.out.Size()+int64(len(e.buf)) > e.most {
		return parcel.ErrFull
	}
	return e.out.Bundle(h.Seq, h.Class, e.buf)
}

// ImportBundles implements admin.Backend.
func (b backend) ImportBundles(ctx context.Context, file io.Reader) (admin.Imported, error) {
	if err := b.n.parcels.begin(); err != nil {
		return admin.Imported{}, err
	}
	defer b.n.parcels.mu.Unlock()
	f, whole, err := b.spool(ctx, file, parcel.Reader{})
	if err != nil {
		return admin.Imported{}, err
	}
	defer f.drop()
	if whole.Kind != parcel.Bundles {
		return admin.Imported{}, admin.Invalid("import it at "+whole.Header.From.String()+", as a receipt", "this is a receipt, not a file of bundles")
	}
	i := &importer{b: b, ctx: ctx, whole: whole, out: admin.Imported{
		ID: whole.Header.ID, Node: whole.Header.Node, Created: whole.Header.Created, Bundles: whole.Bundles, Refused: map[string]int{},
	}}
	self := b.n.material.Self()
	i.out.Returned = whole.Header.Node == self.Node && whole.Header.Store == b.n.store.Incarnation()
	if i.out.Unclear = !whole.Header.Dated || !b.n.clockOK; !i.out.Unclear {
		i.late = max(b.n.loop.clock.now().Sub(whole.Header.Created), 0).Milliseconds()
	}
	if _, err := f.read(parcel.Reader{Verify: b.verify, Item: i.item}); err != nil {
		return i.out, err
	}
	if err := i.flush(); err != nil {
		return i.out, err
	}
	i.out.Receipt, err = i.receipt()
	b.n.log.Info("bundles taken in from a file by an operator", "file", i.out.ID, "peer", i.out.Node, "count", i.out.Taken)
	return i.out, err
}

// ReleaseBundles implements admin.Backend.
func (b backend) ReleaseBundles(ctx context.Context, file io.Reader) (admin.HandedOver, error) {
	if err := b.n.parcels.begin(); err != nil {
		return admin.HandedOver{}, err
	}
	defer b.n.parcels.mu.Unlock()
	all := map[core.Handed]bool{}
	var view bundle.View
	f, whole, err := b.spool(ctx, file, parcel.Reader{
		Taken: func(k parcel.Key) error { all[core.Handed{Seq: k.Seq, Bundle: k.Bundle}] = true; return nil },
		Item: func(it parcel.Item) error {
			if err := view.Parse(it.Bundle); err != nil {
				return err
			}
			all[core.Handed{Seq: it.Seq, Bundle: view.Primary.ID().Seq}] = true
			return nil
		},
	})
	if err != nil {
		return admin.HandedOver{}, err
	}
	f.drop()
	h, from := whole.Header, whole.Header.From
	if whole.Kind == parcel.Bundles {
		from = h.Node
	}
	self := b.n.material.Self().Node
	if from != self || h.Store != b.n.store.Incarnation() {
		return admin.HandedOver{}, admin.Invalid("farhop bundle import it there", "it is about bundles of %s, or of a store that this node has no more", from)
	}
	var done core.Purged
	reply, err := b.n.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) { done = c.HandedOver(now, token, all) })
	if err = reasonErr(reply, err); err != nil { // the loop may still write done
		return admin.HandedOver{}, err
	}
	b.n.log.Info("custody handed over by a file", "file", h.ID, "peer", h.Node, "count", done.Ended)
	return admin.HandedOver{ID: h.ID, Node: h.Node, Named: len(all), Released: done.Ended, Left: done.Left}, nil
}

// spooled is a file that was received whole, and is good.
type spooled struct {
	f *os.File
}

func (s spooled) read(do parcel.Reader) (parcel.Whole, error) {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return parcel.Whole{}, err
	}
	return parcel.Read(s.f, do)
}

func (s spooled) drop() {
	_ = s.f.Close() // nothing of it counts any more
	_ = os.Remove(s.f.Name())
}

// spool receives a file, so that all of it is judged before any of it counts,
// and nobody changes it in between. A rest of a crash is written over.
func (b backend) spool(ctx context.Context, from io.Reader, do parcel.Reader) (spooled, parcel.Whole, error) {
	v, err := b.n.loop.view(ctx)
	if err != nil {
		return spooled{}, parcel.Whole{}, err
	}
	dir := filepath.Join(b.n.cfg.Dir, parcelDir)
	if err := identity.MakeDir(dir); err != nil {
		return spooled{}, parcel.Whole{}, roomless(dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "incoming"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return spooled{}, parcel.Whole{}, roomless(dir, err)
	}
	s := spooled{f}
	room := v.Room / 2 // the other half is for what is in it
	size, err := io.Copy(f, io.LimitReader(from, room))
	var whole parcel.Whole
	if err = roomless(dir, err); err == nil && size == room {
		err = roomless(dir, syscall.ENOSPC)
	} else if err == nil {
		do.Verify = b.verify
		if whole, err = s.read(do); err != nil {
			err = admin.Invalid("nothing was changed; copy the file again, or export anew", "the file is not good: %v", err)
		}
	}
	if err != nil {
		s.drop()
		// Who is still sending would be reset, and not hear the answer.
		_, _ = io.Copy(io.Discard, io.LimitReader(from, maxUnread))
	}
	return s, whole, err
}

// maxUnread is how much is read of a file that was refused, bytes.
const maxUnread = 4 << 30

// roomless says what a full disk means for a file that is being received.
func roomless(dir string, err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return &admin.Error{
		Code: http.StatusInsufficientStorage, What: fmt.Sprintf("the disk of %s has no room for the file and what is in it; nothing was changed", dir),
		Hint: "free space on the disk, and import the file again",
	}
}

// importer takes in the bundles of a file.
type importer struct {
	b     backend
	ctx   context.Context
	whole parcel.Whole
	out   admin.Imported
	late  int64 // ms under way

	view    bundle.View
	batch   []core.Imported
	keys    []parcel.Key // of batch
	bytes   int
	settled []parcel.Key // whose custody is here
}

// item parses one bundle as if it came over a link.
func (i *importer) item(it parcel.Item) error {
	if i.out.Returned {
		if _, err := i.b.n.store.Read(it.Seq); err == nil {
			i.out.Known++
			return nil
		}
	}
	in := i.b.n.links.parse(&i.view, i.whole.Header.Node, bytes.Clone(it.Bundle))
	in.Class = it.Class
	if in.Bad == bundle.OK && in.Bundle.Class() != it.Class {
		in.Bad = bundle.Malformed
	}
	in.Life -= i.late
	i.batch, i.keys = append(i.batch, core.Imported{Bundle: in}), append(i.keys, parcel.Key{Seq: it.Seq, Bundle: in.Bundle})
	if i.bytes += in.Size; len(i.batch) < importBatch && i.bytes < importBytes {
		return nil
	}
	return i.flush()
}

// flush takes in what waits, and waits until that is durable.
func (i *importer) flush() error {
	type verdict struct {
		n      int
		reason bundle.Reason
	}
	batch, keys := i.batch, i.keys
	i.batch, i.keys, i.bytes = nil, nil, 0
	answers := make(chan verdict, len(batch))
	if !i.b.n.loop.in.put(func(now time.Time, c *core.Core) {
		for n := range batch {
			batch[n].Token = i.b.n.loop.newToken(func(r core.Reply) { answers <- verdict{n, r.Reason} })
		}
		c.Import(now, i.whole.Header.Node, batch)
	}) {
		return errHalted
	}
	for range batch {
		select {
		case v := <-answers:
			switch v.reason {
			case bundle.OK:
				i.out.Taken++
			case bundle.Duplicate:
				i.out.Known++
			default:
				i.out.Refused[v.reason.String()]++
				continue
			}
			i.settled = append(i.settled, keys[v.n])
		case <-i.ctx.Done():
			return i.ctx.Err()
		}
	}
	return nil
}

// receipt says what is in custody here, signed.
func (i *importer) receipt() ([]byte, error) {
	var out bytes.Buffer
	h := i.whole.Header
	w, err := parcel.NewWriter(&out, parcel.Receipt, parcel.Header{
		ID: h.ID, Node: i.b.n.material.Self().Node, Store: h.Store, From: h.Node, Created: i.b.n.loop.clock.now().UTC(), Dated: i.b.n.clockOK,
	})
	if err == nil {
		err = w.Taken(i.settled)
	}
	if err == nil {
		err = w.End(i.b.sign)
	}
	return out.Bytes(), err
}
