package main

// coreMutants break node/core: effects and facts, custody, numbers, sessions.
var coreMutants = []mutant{
	// No effect before its fact (docs/adr/0002).
	{
		name: "a PUBACK before the write", file: "node/core/gate.go", short: true,
		old:   "for ; n < len(c.gate.replies) && c.gate.replies[n].lsn <= upTo; n++ {",
		new:   "for ; n < len(c.gate.replies); n++ {",
		tests: "node/core .",
	},
	{
		name: "a custody ack before the write", file: "node/core/gate.go", short: true,
		old:   "for n < len(in.acks) && in.acks[n].lsn <= upTo {",
		new:   "for n < len(in.acks) {",
		tests: "node/core .",
	},
	{
		name: "a live delivery before the write", file: "node/core/gate.go",
		old:   "n < len(c.gate.live) && c.gate.live[n].lsn <= upTo; n++",
		new:   "n < len(c.gate.live); n++",
		tests: "node/core .",
	},
	{
		name: "PUBREL before PUBREC is durable", file: "node/core/gate.go",
		old:   "n < len(c.gate.releases) && c.gate.releases[n].lsn <= upTo; n++",
		new:   "n < len(c.gate.releases); n++",
		tests: "node/core .",
	},
	{
		name: "what rests on a batch does not make it urgent", file: "node/core/gate.go",
		old:   "	c.gate.awaited = c.m.Batch.LSN\n",
		new:   "",
		tests: "node/core .",
	},
	{
		name: "the first advert before the boot number is durable", file: "node/core/adverts.go",
		old:   "c.gate.persisted < c.bootLSN",
		new:   "false",
		tests: "node/core .",
	},

	// Custody hop by hop.
	{
		name: "a transfer is forgotten when it is sent", file: "node/core/links.go", short: true,
		old:   "	out.next++\n	c.stats.Transfers++",
		new:   "	out.next++\n	out.flights[len(out.flights)-1] = nil\n	c.m.Release(i)\n	c.stats.Transfers++",
		tests: "node/core .",
	},
	{
		name: "a refused transfer counts as taken", file: "node/core/links.go",
		old:   "	default:\n		c.giveBack(i)",
		new:   "	default:\n		c.m.Release(i)",
		tests: "node/core .",
	},
	{
		name: "a peer without room counts as taken", file: "node/core/links.go",
		old:   "	case bundle.StoreFull:\n		c.giveBack(i)",
		new:   "	case bundle.StoreFull:\n		c.m.Release(i)",
		tests: "node/core .",
	},
	{
		name: "what was in flight is not taken back when the link ends", file: "node/core/links.go",
		old:   "			if i != nil {\n				c.giveBack(i)\n			}",
		new:   "			_ = i",
		tests: "node/core .",
	},
	{
		name: "what is in flight stays on a silent link", file: "node/core/links.go",
		old:   "if o := c.outletOf(i.Entry.Queue); o != nil && c.upNow",
		new:   "if o := c.outletOf(i.Entry.Queue); false && c.upNow",
		tests: "node/core .",
	},
	{
		name: "a link carries what its classes do not name", file: "node/core/uplinks.go",
		old:   "	return l.Classes == 0 || l.Classes.Has(class) || class == bundle.Control",
		new:   "	return true",
		tests: "node/core .",
	},
	{
		name: "the only way of a class to a node is held back as others", file: "node/core/damper.go",
		old:   "if ok && c.table.Apart(class) &&",
		new:   "if ok && class == bundle.Control &&",
		tests: "node/core TestGolden",
	},
	{
		name: "the only way to a node is held back as others", file: "node/core/damper.go",
		old:   "&& c.onlyWay(n) {",
		new:   "&& n.IsZero() {",
		tests: "node/core .",
	},
	{
		name: "the dearer of two links is used", file: "node/core/uplinks.go",
		old:   "cmp.Compare(l.Cost, o.Cost))\n}",
		new:   "cmp.Compare(o.Cost, l.Cost))\n}",
		tests: "node/core .",
	},
	{
		name: "an ack of what was never sent is believed", file: "node/core/links.go",
		old:   "if a.XID >= out.next {",
		new:   "if false {",
		tests: "node/core .",
	},
	{
		name: "a gap in transfer numbers is not noticed", file: "node/core/receive.go",
		old:   "if in.XID != r.next {",
		new:   "if false {",
		tests: "node/core .",
	},
	{
		name: "control waits behind data", file: "node/core/links.go",
		old:   "(class == bundle.Control || l.bytes < l.Window)",
		new:   "l.bytes < l.Window",
		tests: "node/core .",
	},
	{
		name: "a link's window is ignored", file: "node/core/links.go",
		old:   "(class == bundle.Control || l.bytes < l.Window)",
		new:   "true",
		tests: "node/core .",
	},
	{
		name: "the number of flights is not bounded", file: "node/core/links.go",
		old:   "len(l.out[class].flights) < maxFlights && ",
		new:   "",
		tests: "node/core .",
	},
	{
		name: "a Ping of the peer proves that it hears us", file: "node/core/liveness.go",
		old:   "	case Pong, Ack, Refuse, *Incoming:",
		new:   "	case Ping, Pong, Ack, Refuse, *Incoming:",
		tests: "node/core Half",
	},
	{
		name: "who is late judges others", file: "node/core/liveness.go",
		old:   "l.from = min(max(l.from, l.proof)+by, c.now)",
		new:   "_ = by",
		tests: "node/core Late",
	},
	{
		name: "routing: an alternate may send back", file: "routing/alternates.go",
		old:   "d[at].cost >= d[self].plus(p.Cost)",
		new:   "d[at].cost > d[self].plus(p.Cost)",
		tests: "routing .",
	},
	{
		name: "one slow answer after a cut is the round trip", file: "node/core/liveness.go",
		old:   "		if l.slows < longerWay {",
		new:   "		if false {",
		tests: "node/core Clumsy",
	},
	{
		name: "silence is never noticed", file: "node/core/liveness.go",
		old:   "return !l.silent && l.open && l.pinged != 0 && now",
		new:   "return false && now",
		tests: "node/core .",
	},
	{
		name: "a closed contact still sends", file: "node/core/links.go",
		old:   "func (l *link) usable() bool { return l.open && !l.silent }",
		new:   "func (l *link) usable() bool { return !l.silent }",
		tests: "node/core .",
	},

	// Repeats, order, numbers (docs/adr/0005).
	{
		name: "relays do not drop repeats", file: "node/core/receive.go",
		old:   "if w.Seen(in.Bundle.Count()) {",
		new:   "if false {",
		tests: "node/core .",
	},
	{
		name: "a relay forgets what it saw in a restart", file: "node/core/receive.go",
		old:   "	w.Add(in.Bundle.Count())\n	c.dirty.add(dirtyKey{kind: dirtyHops, hop: key})",
		new:   "	w.Add(in.Bundle.Count())",
		tests: "node/core .",
	},
	{
		name: "the consumer does not drop repeats", file: "node/core/legs.go", short: true,
		old:   "if late && !g.missing.has(in.DSeq) || len(g.waiting[in.DSeq]) > 0 {",
		new:   "if false {",
		tests: "node/core .",
	},
	{
		name: "the consumer forgets what is due in a restart", file: "node/core/legs.go",
		old:   "	c.dirty.add(dirtyKey{kind: dirtyLeg, origin: g.key})\n	if late {",
		new:   "	if late {",
		tests: "node/core .",
	},
	{
		name: "a region hands a message on twice", file: "node/core/receive.go",
		old:   "	if w.Seen(id.Seq.Count()) {\n		return false",
		new:   "	if false {\n		return false",
		tests: "node/core .",
	},
	{
		name: "order is not restored", file: "node/core/legs.go", short: true,
		old:   "	if in.DSeq > g.next {\n		// What",
		new:   "	if in.DSeq > g.next+1<<40 {\n		// What",
		tests: "node/core .",
	},
	{
		name: "a gap is waited for without end", file: "node/core/legs.go",
		old:   "			c.giveUp(g, c.now-wait)",
		new:   "			_ = wait",
		tests: "node/core .",
	},
	{
		name: "what was given up and comes after all is dropped", file: "node/core/legs.go",
		old:   "		g.missing.add(g.next, d)",
		new:   "",
		tests: "node/core .",
	},
	{
		name: "order numbers begin again after a restart", file: "node/core/state.go",
		old:   "Class: bundle.Class(cl)}).last = v",
		new:   "Class: bundle.Class(cl)}).last = v * 0",
		tests: "node/core .",
	},
	{
		name: "bundle numbers begin again after a restart", file: "node/core/state.go",
		old:   "			*dst, value = v, value[n:]",
		new:   "			*dst, value = v*0, value[n:]",
		tests: "node/core .",
	},
	{
		name: "numbers of what was refused are not taken back", file: "node/core/resolve.go",
		old:   "			c.dest(q).last--",
		new:   "			_ = c.dest(q)",
		tests: "node/core .",
	},

	// Ends of a life.
	{
		name: "time spent here does not count", file: "node/core/links.go",
		old:   "Blob: i.Blob, Life: i.Header.Expires - c.now,\n	})",
		new:   "Blob: i.Blob, Life: i.Header.Expires - i.Header.Received,\n	})",
		tests: "node/core .",
	},
	{
		name: "what expired is sent on", file: "node/core/links.go",
		old:   "if i.Header.Expires <= c.now && i.Entry.State != store.Ended {",
		new:   "if false {",
		tests: "node/core .",
	},
	{
		name: "what expired in flight waits again", file: "node/core/links.go",
		old:   "if i.Header.Expires <= c.now && i.Entry.State == store.Pending && !c.begun(i, 0) && i.State == storeforward.Waiting {",
		new:   "if false {",
		tests: "node/core .",
	},
	{
		name: "no obituary is sent", file: "node/core/expire.go",
		old:   "return q == store.ToNode && i.Entry.DSeq > 0",
		new:   "return false && i.Entry.DSeq > 0",
		tests: "node/core .",
	},
	{
		name: "hops are not limited", file: "node/core/receive.go",
		old:   "	if in.Hops >= MaxHops && in.Node != c.cfg.Self {",
		new:   "	if false {",
		tests: "node/core .",
	},
	{
		name: "hops are not counted", file: "node/core/receive.go",
		old:   "Prev: from, Class: in.Class, Hops: in.Hops + 1",
		new:   "Prev: from, Class: in.Class, Hops: in.Hops",
		tests: "node/core .",
	},
}

// quotaMutants break batches and quotas of node/core.
var quotaMutants = []mutant{
	{
		name: "a full store takes more", file: "storeforward/quota.go", short: true,
		old:   "		return bundle.StoreFull\n	}\n	return bundle.OK",
		new:   "	}\n	return bundle.OK",
		tests: "node/core .",
	},
	{
		name: "no room is kept for the classes above", file: "storeforward/quota.go",
		old:   "	kept := reserve[class]",
		new:   "	kept := reserve[bundle.Control]",
		tests: "node/core .",
	},
	{
		name: "a quota of bytes is ignored", file: "node/core/quota.go",
		old:   "if max := ch.Quota.Bytes; max > 0 && u",
		new:   "if max := ch.Quota.Bytes; max < 0 && u",
		tests: "node/core .",
	},
	{
		name: "a quota of messages is ignored", file: "node/core/quota.go",
		old:   "if max := ch.Quota.Count; max > 0 && u",
		new:   "if max := ch.Quota.Count; max < 0 && u",
		tests: "node/core .",
	},
	{
		name: "what a message used is not given back", file: "storeforward/quota.go",
		old:   "		u.Count += sign * int(max(h.Count, 1))",
		new:   "		u.Count += max(sign, 0) * int(max(h.Count, 1))",
		tests: "node/core .",
	},
	{
		name: "numbers of what a quota refused are not taken back", file: "node/core/quota.go",
		old:   "	if reason != bundle.OK {\n		c.undraw(r.entries)\n	}",
		new:   "",
		tests: "node/core .",
	},
	{
		name: "a queue that was refused does not rest", file: "storeforward/quota.go",
		old:   "	q.resting, q.credit = true, 1",
		new:   "	q.credit = 1",
		tests: "node/core .",
	},
	{
		name: "a queue that rests never resumes", file: "storeforward/quota.go",
		old:   "	q.resting = false",
		new:   "	q.credit = 1",
		tests: "node/core .",
	},
}

// sessionMutants break the MQTT half of node/core.
var sessionMutants = []mutant{
	{
		name: "a QoS 2 packet id is not remembered", file: "node/core/deliveries.go",
		old:   "		s.inbound[p.Packet] = true",
		new:   "		_ = s",
		tests: "node/core .",
	},
	{
		name: "QoS 2 packet ids are forgotten in a restart", file: "node/core/deliveries.go", short: true,
		old:   "		s.inbound[p.Packet] = true\n		c.dirty.add(dirtyKey{kind: dirtyInbound, name: s.id})",
		new:   "		s.inbound[p.Packet] = true",
		tests: "node/core .",
	},
	{
		name: "a released packet id stays in use", file: "node/core/deliveries.go",
		old:   "		delete(s.inbound, t.Packet)",
		new:   "		_ = s.inbound",
		tests: "node/core .",
	},
	{
		name: "that a device has a QoS 2 message is not written", file: "node/core/deliveries.go",
		old:   "		c.m.MarkReceived(i)",
		new:   "		i.Entry.State = store.Received",
		tests: "node/core .",
	},
	{
		name: "a device's window is ignored", file: "node/core/deliveries.go", short: true,
		old:   "for len(s.out.flying)+s.out.unstable < int(s.window) {",
		new:   "for {",
		tests: "node/core .",
	},
	{
		name: "a device's window is freed before its answer is durable", file: "node/core/deliveries.go",
		old:   "for len(s.out.flying)+s.out.unstable < int(s.window) {",
		new:   "for len(s.out.flying) < int(s.window) {",
		tests: "node/core .",
	},
	{
		name: "a packet id is used twice at one time", file: "node/core/deliveries.go",
		old:   "		if s.out.packets[id] {",
		new:   "		if false {",
		tests: "node/core .",
	},
	{
		name: "deliveries in flight are lost with the connection", file: "node/core/sessions.go",
		old:   "		c.giveBack(s.out.flying[seq])",
		new:   "		_ = seq",
		tests: "node/core .",
	},
	{
		name: "a repeat after a restart carries no DUP", file: "node/core/deliveries.go",
		old:   "Dup: i.Sent > 1 || i.Header.Seq <= c.bootSeq",
		new:   "Dup: i.Sent > 1",
		tests: "node/core .",
	},
	{
		name: "a client that is at another node is mourned", file: "node/core/roam_release.go", short: true,
		old:   "	c.notLost(s.id)\n",
		new:   "",
		tests: "node/core Golden",
	},
	{
		name: "what becomes of a message that follows its session is not heard", file: "node/core/roam_release.go",
		old:   "on.share = wholeShare",
		new:   "_ = wholeShare",
		tests: "node/core Golden",
	},
	{
		name: "an answer of an older connection counts", file: "node/core/deliveries.go",
		old:   "if i == nil || s.conn != t.Conn {",
		new:   "if i == nil {",
		tests: "node/core .",
	},
	{
		name: "subscriptions are forgotten in a restart", file: "node/core/sessions.go",
		old:   "		saved.Subs = append(saved.Subs, sub.Subscription)",
		new:   "		_ = sub",
		tests: "node/core .",
	},
	{
		name: "an ended session keeps its messages", file: "node/core/sessions.go",
		old:   "		c.m.RerouteOne(q)\n		c.purge(q)",
		new:   "		c.m.RerouteOne(q)",
		tests: "node/core .",
	},
	{
		name: "a session never ends", file: "node/core/sessions.go",
		old:   "c.away[0].ends <= c.now {",
		new:   "false {",
		tests: "node/core .",
	},
	{
		name: "a session that is to stay is passed by from where it was none", file: "node/core/sessions.go",
		old:   "	c.seek(s)\n	if !same {",
		new:   "	if !same {",
		tests: "node/core Sought",
	},
	{
		name: "of two sessions with a filter the first that ends takes it along", file: "node/core/sought.go",
		old:   "		case n == 0:\n",
		new:   "		case n >= 0:\n",
		tests: "node/core Sought",
	},
	{
		name: "a retained message is not written", file: "node/core/retained.go", short: true,
		old:   "	c.setLarge(store.Set{Key: key, Value: appendKept(nil, n), Blob: n.blob})\n",
		new:   "",
		tests: "node/core .",
	},
	{
		name: "a will that was said stays on disk", file: "node/core/wills.go", short: true,
		old:   "	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willPrefix + w.client})\n",
		new:   "",
		tests: "node/core Golden|Will",
	},
	{
		name: "the message of a will waits for others, and its end does not", file: "node/core/submit.go",
		old:   "s.Retain || s.will)",
		new:   "s.Retain)",
		tests: "node/core Golden|Will",
	},
	{
		name: "a delay begins anew at each start", file: "node/core/wills.go",
		old:   "		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: willDuePrefix + w.client, Value: appendDue(w.due)})\n",
		new:   "",
		tests: "node/core Golden|Will",
	},
	{
		name: "a client that is back is mourned all the same", file: "node/core/wills.go",
		old:   "	case o.Clean || w.due <= c.now:",
		new:   "	case true:",
		tests: "node/core Golden|Will",
	},
	{
		name: "a will that finds no room is gone", file: "node/core/wills.go",
		old:   "	case bundle.StoreFull:\n		if w.state",
		new:   "	case bundle.NumReasons:\n		if w.state",
		tests: "node/core Golden|Will",
	},
	{
		name: "a message that two filters match comes twice", file: "node/core/hoard.go",
		old:   "if r.entries[i].Queue == name {",
		new:   "if false {",
		tests: "node/core .",
	},
	{
		name: "a publisher gets its own message in spite of no-local", file: "node/core/resolve.go",
		old:   "if s.NoLocal && client",
		new:   "if false && client",
		tests: "node/core .",
	},
	{
		name: "the disk failed and the core goes on", file: "node/core/core.go",
		old:   "	c.halted = true\n",
		new:   "",
		tests: "node/core .",
	},
}
