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
		name: "core law alone: once, or with DUP", file: "node/core/sessions.go", short: true,
		old:   "Dup: i.Sent > 1 || i.Header.Seq <= c.bootSeq",
		new:   "Dup: false",
		tests: "node/core ^TestLaws", law: `twice, and was not told`, not: `never got|after m|still holds`,
	},
	{
		name: "core law alone: in the order of publishing", file: "node/core/legs.go", short: true,
		old:   "	if in.DSeq > g.next {\n		if q :=",
		new:   "	if in.DSeq > g.next {\n		g.missing.add(g.next, in.DSeq)\n		g.next = in.DSeq\n	}\n	if in.DSeq > g.next {\n		if q :=",
		tests: "node/core ^TestLaws", law: `got m\d+ after m`, not: `twice|never got|still holds`,
	},
	{
		name: "core law alone: nothing is kept for nobody", file: "node/core/sessions.go", short: true,
		old:   "		c.m.Release(i)\n		c.stats.Delivered++",
		new:   "		if i.Entry.DSeq%16 != 0 {\n			c.m.Release(i)\n		}\n		c.stats.Delivered++",
		tests: "node/core ^TestLawsHoldInPowerCuts$", law: `still holds`, not: `twice|never got|after m`,
	},
}

// meshTests judge virtual worlds.
const meshTests = "sim ^TestCrashyMesh"

// worldMutants do the same for the laws of virtual worlds (package sim).
var worldMutants = []mutant{
	{
		name: "world law alone: what was acknowledged comes", file: "node/core/gate.go", short: true,
		old:   "for ; n < len(c.gate.replies) && c.gate.replies[n].lsn <= upTo; n++ {",
		new:   "for ; n < len(c.gate.replies); n++ {",
		tests: meshTests, law: `were lost`, not: `delivered twice|out of order`,
	},
	{
		name: "world law alone: once", file: "node/core/sessions.go", short: true,
		old:   "Dup: i.Sent > 1 || i.Header.Seq <= c.bootSeq",
		new:   "Dup: false",
		tests: meshTests, law: `delivered twice`, not: `were lost|out of order`,
	},
	{
		name: "world law alone: in order", file: "node/core/legs.go", short: true,
		old:   "	if in.DSeq > g.next {\n		if q :=",
		new:   "	if in.DSeq > g.next {\n		g.missing.add(g.next, in.DSeq)\n		g.next = in.DSeq\n	}\n	if in.DSeq > g.next {\n		if q :=",
		tests: meshTests, law: `out of order`, not: `were lost|delivered twice`,
	},
}
