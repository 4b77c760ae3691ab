package main

// journalTests judge the journal by crash images of its disk, and by the suite
// that all engines pass.
const journalTests = "storeforward/journal ^(TestCrashImages|TestConformance.*)$ -rapid.shrinktime=0s"

// recoverTests judge it by damage that is done to its files on purpose.
const recoverTests = "storeforward/journal ^Test(Torn|Damage|Quarantine|Old|Index|Checkpoint|Pinned|Tombstones|Clean|CrashedMerge|Poison|WhatIs)"

// journalMutants break storeforward/journal.
var journalMutants = []mutant{
	{
		name: "journal: groups are not synced", file: "storeforward/journal/commit.go",
		old:   "		err := c.file.Sync()",
		new:   "		err := error(nil)",
		tests: journalTests,
	},
	{
		name: "journal: a wrong checksum is taken", file: "storeforward/journal/format.go", short: true,
		old:   "		binary.LittleEndian.Uint32(b[4:]) == crc32.Update(seed, castagnoli, b[8:blockHeadLen+h.body])",
		new:   "		seed != 1",
		tests: journalTests,
	},
	{
		name: "journal: a wrong checksum of a large value is taken", file: "storeforward/journal/replay.go",
		old:   "	return sum == h.tailSum",
		new:   "	return sum == h.tailSum || h.tail > 0",
		tests: recoverTests,
	},
	{
		name: "journal: a batch is taken in part", file: "storeforward/journal/replay.go", short: true,
		old:   "if inside = h.flags&flagLast == 0; !inside {",
		new:   "if inside = h.flags&flagLast == 0; true {",
		tests: journalTests,
	},
	{
		name: "journal: damage is taken for a torn tail", file: "storeforward/journal/replay.go", short: true,
		old:   "			if h.synced >= next {",
		new:   "			if false {",
		tests: recoverTests,
	},
	{
		name: "journal: a torn tail is taken for damage", file: "storeforward/journal/replay.go",
		old:   "			if h.synced >= next {",
		new:   "			if true {",
		tests: journalTests,
	},
	{
		name: "journal: an old segment may have a torn tail", file: "storeforward/journal/recover.go", short: true,
		old:   "	if !newest {\n		if next",
		new:   "	if false {\n		if next",
		tests: recoverTests,
	},
	{
		name: "journal: the end of the newest segment is not synced at a start", file: "storeforward/journal/open.go",
		old:   "		seg.size = seg.end\n	}\n	return f.Sync()",
		new:   "		seg.size = seg.end\n	}\n	return nil",
		tests: recoverTests,
	},
	{
		name: "journal: cleaning loses tombstones", file: "storeforward/journal/merge.go", short: true,
		old:   "	if target == nil || target.next == m.out.nonce {",
		new:   "	if true {",
		tests: recoverTests,
	},
	{
		name: "journal: cleaning loses states", file: "storeforward/journal/merge.go",
		old:   "	if ok && state == r.state && m.buries(seg, r.seq) {",
		new:   "	if false && ok && state == r.state && m.buries(seg, r.seq) {",
		tests: recoverTests,
	},
	{
		name: "journal: cleaning loses keys of the state", file: "storeforward/journal/merge.go",
		old:   "	if !ok || v.seg != seg || v.at != off {\n		return nil",
		new:   "	if true || !ok || v.seg != seg || v.at != off {\n		return nil",
		tests: journalTests,
	},
	{
		name: "journal: cleaning brings deleted keys back", file: "storeforward/journal/merge.go",
		old:   "		if !ok && !m.oldest {",
		new:   "		if false {",
		tests: recoverTests,
	},
	{
		name: "journal: what is cleaned is removed before its copy is synced", file: "storeforward/journal/merge.go",
		old:   "	return m.file.Sync()",
		new:   "	return nil",
		tests: journalTests,
	},
	{
		name: "journal: what is cleaned is removed before its copy has its name", file: "storeforward/journal/merge.go",
		old:   "		err = s.fs.SyncDir()\n	}\n	if err != nil {\n		_ = m.file.Close()",
		new:   "	}\n	if err != nil {\n		_ = m.file.Close()",
		tests: journalTests,
	},
	{
		name: "journal: a checkpoint is newer than the journal", file: "storeforward/journal/checkpoint.go",
		old:   "uint64(s.id.created), pos.num, uint64(pos.off), pos.next,",
		new:   "uint64(s.id.created), pos.num, uint64(pos.off)+64, pos.next+1,",
		tests: journalTests,
	},
	{
		name: "journal: a checkpoint forgets what left a queue", file: "storeforward/journal/checkpoint.go",
		old:   "	for _, base := range q.set.Vanished() {\n		sn.delete(baseKey(keySet, base, q.id))\n	}",
		new:   "",
		tests: recoverTests,
	},
	{
		name: "journal: the highest number is forgotten", file: "storeforward/journal/replay.go",
		old:   "			r.b.high = max(r.b.high, rec.seq)",
		new:   "			_ = rec.seq",
		tests: journalTests,
	},
}
