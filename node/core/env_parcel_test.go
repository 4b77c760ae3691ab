package core_test

import (
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// efile is a file of bundles: what one node would send to others, as it was when
// the file was made, and what of it is in custody elsewhere.
type efile struct {
	from  *enode
	store uint32 // of from
	all   []earried
	taken map[core.Handed]bool
}

// earried is one bundle of a file.
type earried struct {
	key  core.Handed
	item store.Item
	blob *store.Blob
	life int64
}

// cmdExport makes a file of what leads away from a node.
func (e *env) cmdExport() {
	n := e.node(e.arg(0))
	f := &efile{from: n, store: n.store.Incarnation(), taken: map[core.Handed]bool{}}
	for _, q := range n.core.View().Queues {
		if q.Queue.Kind != store.ToNode && q.Queue.Kind != store.ToRegion || e.value("to", q.Queue.Name) != q.Queue.Name {
			continue
		}
		items, _ := n.store.Scan(q.Queue, 0, 1<<20)
		for _, it := range items {
			life := it.Header.Expires - n.now().UnixMilli()
			b, err := n.store.Read(it.Header.Seq)
			if it.Entry.State != store.Pending || life <= 0 || len(it.Entry.Frozen) == 0 || err != nil {
				continue
			}
			f.all = append(f.all, earried{core.Handed{Seq: it.Header.Seq, Bundle: it.Entry.Bundle}, it, &store.Blob{B: b}, life})
		}
	}
	if e.files == nil {
		e.files = map[string]*efile{}
	}
	e.files[e.arg(1)] = f
	e.printf("%s exports %d", n.name, len(f.all))
}

// cmdImport takes the bundles of a file in. What is in custody then is noted in
// the file, which so is its own receipt.
func (e *env) cmdImport() {
	n, f := e.node(e.arg(0)), e.files[e.arg(1)]
	var in []core.Imported
	for i := range f.all {
		c := &f.all[i]
		b := incoming(c.item.Header, c.item.Entry, c.blob, c.life)
		b.Class = c.item.Header.Class
		token := n.newToken("import %s", e.labels[c.item.Header.Message])
		if n.imports == nil {
			n.imports = map[uint64]func(bundle.Reason){}
		}
		n.imports[token] = func(r bundle.Reason) {
			if r == bundle.OK || r == bundle.Duplicate {
				f.taken[c.key] = true
			}
		}
		in = append(in, core.Imported{Token: token, Bundle: b})
	}
	n.core.Import(n.now(), f.from.name, in)
	n.pump()
}

// cmdHand brings a file back to where it was made, where custody of what was
// taken from it ends, or of all of it.
func (e *env) cmdHand() {
	f := e.files[e.arg(0)]
	n, all := f.from, f.taken
	if n.store.Incarnation() != f.store {
		e.printf("%s has another store now", n.name)
		return
	}
	if e.flag("all") {
		all = map[core.Handed]bool{}
		for _, c := range f.all {
			all[c.key] = true
		}
	}
	keep := map[core.Handed]bool{} // the core keeps it
	for k := range all {
		keep[k] = true
	}
	done := n.core.HandedOver(n.now(), n.newToken("hand over"), keep)
	e.printf("%s handed over %d of %d, %d behind the windows", n.name, done.Ended, len(keep), done.Left)
	n.pump()
}
