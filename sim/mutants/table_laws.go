package main

// lawMutants show that each law by which the small worlds of node/core are
// judged can fail, and fail alone.
var lawMutants = []mutant{
	{
		name: "core law alone: what was acknowledged comes", file: "node/core/gate.go", short: true,
		old:   "for ; n < len(c.gate.replies) && c.gate.replies[n].lsn <= upTo; n++ {",
		new:   "for ; n < len(c.gate.replies); n++ {",
		tests: "node/core ^TestLaws", law: `never got`, not: `twice|after m|still holds`,
	},
	{
		name: "core law: what a peer acknowledged comes", file: "node/core/gate.go",
		old:   "for n < len(in.acks) && in.acks[n].lsn <= upTo {",
		new:   "for n < len(in.acks) {",
		tests: "node/core ^TestLaws", law: `never got`, not: `twice|after m`,
	},
	{
		name: "core law alone: once, or with DUP", file: "node/core/deliveries.go", short: true,
		old:   "Dup: i.Sent > 1 || i.Header.Seq <= c.bootSeq",
		new:   "Dup: false",
		tests: "node/core ^TestLaws", law: `twice, and was not told`, not: `never got|after m|still holds`,
	},
	{
		name: "core law alone: in the order of publishing", file: "node/core/legs.go", short: true,
		old:   "	if in.DSeq > g.next {\n		// What",
		new:   "	if in.DSeq > g.next {\n		g.missing.add(g.next, in.DSeq)\n		g.next = in.DSeq\n	}\n	if in.DSeq > g.next {\n		// What",
		tests: "node/core ^TestLaws", law: `got m\d+ after m`, not: `twice|never got|still holds`,
	},
	{
		name: "core law alone: nothing is kept for nobody", file: "node/core/expire.go", short: true,
		old:   "	c.m.Release(i)\n	c.stats.Delivered++",
		new:   "	if i.Entry.DSeq%16 != 0 {\n		c.m.Release(i)\n	}\n	c.stats.Delivered++",
		tests: "node/core ^TestLawsHoldInPowerCuts$", law: `still holds`, not: `twice|never got|after m`,
	},
}

// meshTests judge virtual worlds.
const meshTests = "sim ^TestCrashyMesh"

// worldMutants let laws of virtual worlds (sim/oracle) speak of bugs. That
// each of them speaks alone is shown in package sim, where the driver breaks
// one promise at a time; a bug breaks what follows from it as well.
var worldMutants = []mutant{
	{
		name: "world law reply: a PUBACK before the write", file: "node/core/gate.go", short: true,
		old:   "for ; n < len(c.gate.replies) && c.gate.replies[n].lsn <= upTo; n++ {",
		new:   "for ; n < len(c.gate.replies); n++ {",
		tests: meshTests, law: `law reply broken`,
	},
	{
		name: "world law custody: an ack before the write", file: "node/core/gate.go",
		old:   "for n < len(in.acks) && in.acks[n].lsn <= upTo {",
		new:   "for n < len(in.acks) {",
		tests: meshTests, law: `law custody broken`,
	},
	{
		name: "world law offer: an item leaves before it is durable", file: "storeforward/machine.go",
		old:   "		if !m.Durable(q.next()) {",
		new:   "		if false {",
		tests: meshTests, law: `law offer broken|no such message`,
	},
	{
		name: "world law release: a transfer is forgotten when it is sent", file: "node/core/links.go",
		old:   "	out.next++\n	c.stats.Transfers++",
		new:   "	out.next++\n	out.flights[len(out.flights)-1] = nil\n	c.m.Release(i)\n	c.stats.Transfers++",
		tests: meshTests, law: `law release broken`,
	},
	{
		name: "world law once-hop: relays do not drop repeats", file: "node/core/receive.go",
		old:   "if w.Seen(in.Bundle.Count()) {",
		new:   "if false {",
		tests: meshTests, law: `law once-hop broken`,
	},
	{
		name: "world law once-session: the consumer does not drop repeats", file: "node/core/legs.go",
		old:   "if late && !g.missing.has(in.DSeq) || len(g.waiting[in.DSeq]) > 0 {",
		new:   "if false {",
		tests: meshTests, law: `law once-session broken`,
	},
	{
		name: "world law once-device: a repeat carries no DUP", file: "node/core/deliveries.go", short: true,
		old:   "Dup: i.Sent > 1 || i.Header.Seq <= c.bootSeq",
		new:   "Dup: false",
		tests: meshTests, law: `law once-device broken`,
	},
	{
		name: "world law order: what comes early is passed on", file: "node/core/legs.go", short: true,
		old:   "	if in.DSeq > g.next {\n		// What",
		new:   "	if in.DSeq > g.next {\n		g.missing.add(g.next, in.DSeq)\n		g.next = in.DSeq\n	}\n	if in.DSeq > g.next {\n		// What",
		tests: meshTests, law: `law order broken`,
	},
	{
		name: "world law age: time spent does not count", file: "node/core/links.go",
		old:   "Blob: i.Blob, Life: i.Header.Expires - c.now,",
		new:   "Blob: i.Blob, Life: i.Header.Expires - i.Header.Received,",
		tests: meshTests, law: `law age broken`,
	},
	{
		name: "world law wire: transfers are numbered with gaps", file: "node/core/links.go",
		old:   "	out.next++\n	c.stats.Transfers++",
		new:   "	out.next += 2\n	c.stats.Transfers++",
		tests: meshTests, law: `law wire broken`,
	},
}
