package main

// limitMutants let clients take more than is theirs.
var limitMutants = []mutant{
	{
		name: "broker: one client's input is handled to its end", file: "broker/read.go",
		old:   "		if more = c.work <= 0; more {",
		new:   "		if more = false; more {",
		tests: "broker TestFeedStops",
	},
	{
		name: "broker: large packets cost no more than small ones", file: "broker/read.go",
		old:   "c.work -= 1 + size/workBytes",
		new:   "c.work--",
		tests: "broker TestFeedStops",
	},
	{
		name: "broker: subscriptions that are looked at cost nothing", file: "broker/inbound.go",
		old:   "	c.work -= tried\n",
		new:   "	_ = tried\n",
		tests: "broker TestFeedStops",
	},
	{
		name: "broker: many busy clients get as much as one", file: "broker/turn_linux.go",
		old:   "	return max(leastWork, turnWork/t.last)",
		new:   "	return turnWork",
		tests: "broker TestTurns",
	},
	{
		name: "broker: what earlier connections did not release does not count", file: "broker/inbound.go",
		old:   "p.m.QoS == 2 && len(c.inbound) >= c.b.cfg.MaxUnreleased",
		new:   "p.m.QoS == 2 && c.unacked >= c.b.cfg.MaxUnreleased",
		tests: "broker TestUnreleased",
	},
	{
		name: "broker: who holds much stays when memory is short", file: "broker/pressure.go",
		old:   "		return min(limit, int(share))",
		new:   "		return limit",
		tests: "broker TestMemoryShort|TestPressure",
	},
	{
		name: "broker: a filter that is named again is worked for again", file: "broker/subscribe.go",
		old:   " && last.is(f.Filter, i) {",
		new:   " && (last.is(f.Filter, i) || true) {",
		tests: "broker TestFilterRepeated",
	},
	{
		name: "broker: what filters cost is not given back", file: "broker/subscribe.go",
		old:   "		c.filterBytes -= filterCost(filter)\n",
		new:   "",
		tests: "broker TestFilterCost",
	},
	{
		name: "broker: who leaves is gone before what was held is heard", file: "broker/polled_linux.go",
		old:   " || p.c.stopped\n",
		new:   "\n",
		tests: "broker TestLastWords",
	},
	{
		name: "broker: silent connections keep others out", file: "broker/broker.go",
		old:   "	in := !b.draining && (!full || goes != nil)",
		new:   "	in := !b.draining && !full",
		tests: "broker TestLobby",
	},
	{
		name: "a session that never reads fills the store", file: "node/core/hoard.go",
		old:   "	return n > hoardShare*count || bytes > hoardShare*size",
		new:   "	return n > hoardShare*count && bytes < 0 && size < 0",
		tests: "node/core TestHoarders",
	},
	{
		name: "a session that never reads misses what was accepted", file: "node/core/hoard.go",
		old:   "	return len(r.hoarders) == 0 || c.settings.SkipFull && !r.empty()",
		new:   "	return true",
		tests: "node/core TestHoarders",
	},
	{
		name: "a session with many filters gets a message many times", file: "node/core/hoard.go",
		old:   "		e[s] = i",
		new:   "		_ = i",
		tests: "node/core TestManyFilters",
	},
}
