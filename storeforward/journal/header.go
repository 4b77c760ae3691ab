package journal

import (
	"cmp"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// header makes the header of a put, in memory of its own.
func (n *nameLists) header(f *putFields) (*store.Header, error) {
	return n.headerLike(f, &store.Header{})
}

// headerLike is header, but for strings that are those of another header too:
// they are shared.
func (n *nameLists) headerLike(f *putFields, like *store.Header) (*store.Header, error) {
	h := &store.Header{
		Seq: f.seq, Message: bundle.ID{Seq: bundle.Sequence(f.message)},
		Class: bundle.Class(f.class), Hops: f.hops, QoS: f.qos, Retain: f.flags1&putRetain != 0,
		Yields: f.flags2&putYields != 0,
		Topic:  share(like.Topic, n.texts[f.topic]), Service: share(like.Service, n.texts[f.service]),
		Charge: share(like.Charge, n.texts[f.charge]), Count: f.count,
		Received: f.received, Expires: f.expires, Size: f.size,
		Entries: make([]store.Entry, len(f.entries)),
	}
	var err1, err2, err3 error
	h.Message.Node, err1 = n.node(f.node, like.Message.Node)
	h.Origin, err2 = n.node(f.origin, like.Origin)
	h.Prev, err3 = n.node(f.prev, like.Prev)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return nil, err
	}
	known := ""
	for i := range f.entries {
		e := &f.entries[i]
		if i < len(like.Entries) {
			known = like.Entries[i].Queue.Name
		}
		q := &n.queues[e.queue]
		out := &h.Entries[i]
		*out = store.Entry{
			Queue:  store.Queue{Kind: store.Kind(q.kind), Name: share(known, q.name), Class: bundle.Class(q.class)},
			Bundle: bundle.Sequence(e.bundle), DSeq: e.dseq, QoS: e.qos, State: e.state,
		}
		if e.hasFrozen {
			out.Frozen = append([]byte{}, e.frozen...)
		}
	}
	return h, nil
}

// node makes the name of a node, or returns like when it is the same.
func (n *nameLists) node(id int32, like addr.Node) (addr.Node, error) {
	name := n.nodes[id]
	switch {
	case len(name) == 0:
		return addr.Node{}, nil
	case string(name) == like.String():
		return like, nil
	}
	return addr.ParseNode(string(name))
}

func share(known string, b []byte) string {
	if string(b) == known {
		return known
	}
	return string(b)
}
