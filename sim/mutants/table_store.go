package main

// custodyMutants break storeforward, the machine that keeps custody.
var custodyMutants = []mutant{
	{
		name: "an item leaves before it is durable", file: "storeforward/machine.go", short: true,
		old:   "		if !m.Durable(q.next()) {",
		new:   "		if false {",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "what ends is not dropped from the store", file: "storeforward/machine.go", short: true,
		old:   "	m.Batch.Drops = append(m.Batch.Drops, store.Drop{Queue: i.Entry.Queue, Seq: i.Header.Seq, Size: i.Header.Size})\n",
		new:   "",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "an obituary is not written", file: "storeforward/machine.go",
		old:   "	m.Batch.Marks = append(m.Batch.Marks, store.Mark{Queue: i.Entry.Queue, Seq: i.Header.Seq, State: s, Size: i.Header.Size})\n",
		new:   "",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "a mark is offered before it is durable", file: "storeforward/machine.go",
		old:   "	i.lsn = m.Batch.LSN // offered again only when the mark is durable\n",
		new:   "",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "what is beyond the window is never loaded", file: "storeforward/machine.go", short: true,
		old:   "	q.loading = true\n	m.wants = append(m.wants, q)",
		new:   "",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "a load that came too early is not repeated", file: "storeforward/machine.go",
		old:   "	for _, q := range m.starved {\n		m.want(q)\n	}",
		new:   "",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "items are loaded twice", file: "storeforward/machine.go",
		old:   "		if it.Header.Seq <= q.last {",
		new:   "		if false {",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "the window has no end", file: "storeforward/machine.go",
		old:   "full := !q.complete() || q.windowed >= m.room(q)",
		new:   "full := !q.complete()",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "a new message overtakes those beyond the window", file: "storeforward/machine.go",
		old:   "full := !q.complete() || q.windowed >= m.room(q)",
		new:   "full := q.windowed >= m.room(q)",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "payloads in memory have no bound", file: "storeforward/machine.go",
		old:   "if b != nil && m.stats.Cached+int64(h.Size) <= m.cfg.Cache {",
		new:   "if b != nil {",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "arrival numbers begin again after a restart", file: "storeforward/machine.go", short: true,
		old:   "	m.seq = max(s.NextSeq, 1) - 1",
		new:   "	_ = s.NextSeq",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "what returns goes to the end of its queue", file: "storeforward/queue.go",
		old:   "	if q.cursor == nil || i.Header.Seq < q.cursor.Header.Seq {",
		new:   "	if q.cursor == nil {",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "what was refused hides what is waited for", file: "storeforward/line.go", short: true,
		old:   "	if q.credit == 0 || q.cursor == nil {",
		new:   "	if q != nil {",
		tests: "storeforward .",
	},
	{
		name: "an origin that was refused hides the others", file: "storeforward/line.go",
		old:   "			last[leg] = true",
		new:   "			_ = last[leg]",
		tests: "storeforward .",
	},
	{
		name: "what comes back loses its place after a refusal", file: "storeforward/queue.go",
		old:   "	q.line.items = nil // it has its place in it again",
		new:   "",
		tests: "storeforward .",
	},
	{
		name: "the younger queue is served first", file: "storeforward/queue.go",
		old:   "less: func(a, b *Queue) bool { return a.cursor.Header.Seq < b.cursor.Header.Seq },",
		new:   "less: func(a, b *Queue) bool { return a.cursor.Header.Seq > b.cursor.Header.Seq },",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "the lowest class goes first", file: "storeforward/machine.go", short: true,
		old:   "	for c := range bundle.Class(bundle.NumClasses) {\n		q := o.oldest(c)",
		new:   "	for n := range bundle.Class(bundle.NumClasses) {\n		c := bundle.NumClasses - 1 - n\n		q := o.oldest(c)",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "nothing expires", file: "storeforward/expiry.go", short: true,
		old:   "if m.expiry.len() == 0 || m.expiry.s[0].ends() > now {",
		new:   "if true {",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "a dedup window forgets when it slides", file: "storeforward/window.go",
		old:   "	if n-w.top >= Span {\n		w.bits",
		new:   "	if true {\n		w.bits",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "a dedup window remembers what it never saw", file: "storeforward/window.go",
		old:   "			w.bits[i/64%(Span/64)] &^= 1 << (i % 64)",
		new:   "",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
}

// countMutants break what a machine says of itself.
var countMutants = []mutant{
	{
		name: "an end is not counted", file: "storeforward/machine.go",
		old:   "	m.stats.Messages--\n",
		new:   "",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
	{
		name: "bytes of what ended still count", file: "storeforward/machine.go",
		old:   "	m.stats.Messages--\n	m.stats.Bytes -= i.size()",
		new:   "	m.stats.Messages--",
		tests: "storeforward . -rapid.shrinktime=0s",
	},
}

// engineMutants break the buffers on disk, the journal last.
var engineMutants = []mutant{
	{
		name: "bundle: a wrong CRC is taken", file: "storeforward/bundle/crc.go", short: true,
		old:   "		return c == binary.BigEndian.Uint32(raw[at:])",
		new:   "		return true",
		tests: "storeforward/bundle . -rapid.shrinktime=0s",
	},
	{
		name: "bundle: a wrong CRC16 is taken", file: "storeforward/bundle/crc.go",
		old:   "		return ^c == binary.BigEndian.Uint16(raw[at:])",
		new:   "		return true",
		tests: "storeforward/bundle . -rapid.shrinktime=0s",
	},
	{
		name: "bundle: a hop adds its blocks under numbers in use", file: "storeforward/bundle/hop.go",
		old:   "		used.add(number)\n	}\n	return used",
		new:   "		_ = number\n	}\n	return used",
		tests: "storeforward/bundle . -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: a wrong checksum is taken", file: "storeforward/boltstore/record.go", short: true,
		old:   "	if binary.LittleEndian.Uint32(val[1:]) != checksum(key, val[0], val[recordHead:]) {",
		new:   "	if false {",
		tests: "storeforward/boltstore TestBitFlips|TestHeaderRoundTrip|TestPieces|TestNewerSchema -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: the key is not in the checksum", file: "storeforward/boltstore/record.go",
		old:   "	c := crc32.Update(0, castagnoli, key)",
		new:   "	c := uint32(0)",
		tests: "storeforward/boltstore . -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: commits are not synced", file: "storeforward/boltstore/open.go", short: true,
		old:   "		Timeout:        s.cfg.LockTimeout,",
		new:   "		Timeout:        s.cfg.LockTimeout,\n		NoSync:         true,",
		tests: "storeforward/boltstore . -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: drops are not written", file: "storeforward/boltstore/write.go",
		old:   "	case live == 0:\n		return deleteValue(messages, key)",
		new:   "	case live == 0:\n		return nil",
		tests: "storeforward/boltstore TestConformance -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: marks are not written", file: "storeforward/boltstore/write.go",
		old:   "		return putValue(marks, p.arena, key, p.scratch, !w.hadMarks)",
		new:   "		return nil",
		tests: "storeforward/boltstore TestConformance -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: the highest number is not written", file: "storeforward/boltstore/write.go", short: true,
		old:   "	if p.high == p.ix.high {\n		return nil",
		new:   "	if true {\n		return nil",
		tests: "storeforward/boltstore TestConformance -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: a batch is written in part", file: "storeforward/boltstore/plan.go", short: true,
		old:   "	for i := range b.Drops {\n		p.drop(&b.Drops[i])\n	}",
		new:   "	for i := range min(len(b.Drops), 1) {\n		p.drop(&b.Drops[i])\n	}",
		tests: "storeforward/boltstore TestConformance -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: a payload goes with its first reader", file: "storeforward/boltstore/plan.go",
		old:   "func (w *work) settle() { w.freed = w.freed || w.need == 0 }",
		new:   "func (w *work) settle() { w.freed = w.freed || w.marked || w.need == 0 }",
		tests: "storeforward/boltstore TestConformance -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: a failed commit is forgotten", file: "storeforward/boltstore/commit.go", short: true,
		old:   "	s.poison.CompareAndSwap(nil, &cause)\n",
		new:   "",
		tests: "storeforward/boltstore TestPoison|TestConformance -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: a refused batch stops nothing", file: "storeforward/boltstore/commit.go",
		old:   "if pb.err == nil && s.refusedOne && s.cfg.Strict {",
		new:   "if false {",
		tests: "storeforward/boltstore TestStrict -rapid.shrinktime=0s",
	},
	{
		name: "boltstore: a batch without room is taken", file: "storeforward/boltstore/space.go",
		old:   "	if sp.maxBytes > 0 && sp.size+n > sp.maxBytes {",
		new:   "	if false {",
		tests: "storeforward/boltstore TestFull|TestConformance -rapid.shrinktime=0s",
	},
	{
		name: "memstore: a crash keeps what was not synced", file: "storeforward/memstore/memstore.go",
		old:   "	next := &Store{\n		cfg: s.cfg,",
		new:   "	next := &Store{\n		staged: s.staged, cfg: s.cfg,",
		tests: "storeforward/memstore TestSyncAndCrash",
	},
}
