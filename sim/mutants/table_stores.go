package main

// storesTests are worlds in which stores fill, operators act and disks lie.
const storesTests = "sim ^TestStores"

// storesMutants break quotas, full stores, purges, damage, batches and keys,
// each in a way that only a law over a whole world has to notice.
var storesMutants = []mutant{
	{
		name: "world law quota: what ended stays on its account", file: "storeforward/quota.go", short: true,
		old:   "		u.Count += sign * int(max(h.Count, 1))",
		new:   "		u.Count += max(sign, 0) * int(max(h.Count, 1))",
		tests: storesTests, law: `law quota broken`,
	},
	{
		name: "world law quota: what a peer hands over is not charged", file: "routing/policy/quotas.go", short: true,
		old:   "!s.Peer.IsZero() && !q.remote {",
		new:   "!s.Peer.IsZero() {",
		tests: storesTests, law: `law quota broken.*not on account`,
	},
	{
		name: "world law quota: bytes are not limited", file: "node/core/quota.go",
		old:   "if max := ch.Quota.Bytes; max > 0 && u",
		new:   "if max := ch.Quota.Bytes; max < 0 && u",
		tests: storesTests, law: `law quota broken.*bytes on account`,
	},
	{
		name: "world law quota: messages are not limited", file: "node/core/quota.go",
		old:   "if max := ch.Quota.Count; max > 0 && u",
		new:   "if max := ch.Quota.Count; max < 0 && u",
		tests: storesTests, law: `law quota broken.*messages on account`,
	},
	{
		name: "world law quota: accounts are not written", file: "node/core/state.go",
		old:   "	c.encodeUsage()\n",
		new:   "",
		tests: storesTests, law: `law quota broken`,
	},
	{
		name: "world law bounded: no class leaves room to those above it", file: "storeforward/quota.go", short: true,
		old:   "	kept := reserve[class]",
		new:   "	kept := reserve[bundle.Control]",
		tests: storesTests, law: `law bounded broken.*that class has room`,
	},
	{
		name: "world law reasons: what is displaced has none", file: "node/core/quota.go", short: true,
		old:   "				c.end(i, bundle.Displaced)",
		new:   "				c.m.Release(i)",
		tests: storesTests, law: `law (reasons|release) broken`,
	},
	{
		name: "world law reasons: old messages go though no route says so", file: "node/core/quota.go",
		old:   " && i.Header.Yields &&",
		new:   " &&",
		tests: storesTests, law: `law (reasons|release|age) broken`,
	},
	{
		name: "world law quota: a batch counts as one message", file: "node/core/quota.go", short: true,
		old:   "units := n * max(int(h.Count), 1)",
		new:   "units := n",
		tests: storesTests, law: `law quota broken`,
	},
	{
		name: "world law quota: what waits in a batch is on no account", file: "node/core/quota.go",
		old:   "u.Count+open.Count-gone.Count",
		new:   "u.Count-gone.Count",
		tests: storesTests, law: `law quota broken`,
	},
	{
		name: "world law quota: lost records stay on their accounts", file: "node/core/core.go",
		old:   "store.Set{Key: recountKey, Value: []byte{1}}",
		new:   "store.Set{Key: recountKey}",
		tests: storesTests, law: `law quota broken`,
	},
	{
		name: "world law reasons: what is damaged counts as delivered", file: "node/core/core.go", short: true,
		old:   "c.stats.Ended[bundle.Damaged] += uint64(n)",
		new:   "c.stats.Delivered += uint64(n)",
		tests: storesTests, law: `law reasons broken.*as damaged`,
	},
	{
		name: "world law reasons: what cannot be read is dropped in silence", file: "node/core/rests.go",
		old:   "	c.end(i, bundle.Damaged)",
		new:   "	_ = bundle.Damaged\n	c.m.Release(i)",
		tests: storesTests, law: `law (reasons|release) broken`,
	},
	{
		name: "world law reasons: a purge counts as expiry", file: "node/core/purge.go",
		old:   "			c.end(i, bundle.Purged)",
		new:   "			c.end(i, bundle.Expired)",
		tests: storesTests, law: `law reasons broken.*as purged`,
	},
	{
		name: "world law purge: a kind of queue is forgotten", file: "node/core/purge.go", short: true,
		old:   "		if !p.Covers(q.Name) {",
		new:   "		if q.Name.Kind == store.ToSession || !p.Covers(q.Name) {",
		tests: storesTests, law: `law purge broken`,
	},
	{
		name: "world law purge: what lies behind the window is forgotten", file: "node/core/purge.go",
		old:   "		c.purgeQueue(q, p)\n",
		new:   "",
		tests: storesTests, law: `law purge broken.*after an operator ended it`,
	},
	{
		name: "world law reasons: a purge ends younger messages too", file: "node/core/purge.go",
		old:   "(p.Before.IsZero() || h",
		new:   "(true || h",
		tests: storesTests, law: `law reasons broken.*as purged`,
	},
	{
		name: "world law reply: what waits in a batch is acknowledged", file: "node/core/batching.go", short: true,
		old:   "			b.replies = append(b.replies, *reply)",
		new:   "			c.reply(*reply)",
		tests: storesTests, law: `law reply broken`,
	},
	{
		name: "world law account: the last message of a batch is lost", file: "node/core/batching.go",
		old:   "		data := b.packer.Append(nil)",
		new:   "		data := b.packer.Append(nil)[:len(b.packer.Append(nil))-1]",
		tests: storesTests, law: `law \w+ broken|batch`,
	},
	{
		name: "world law once-device: keys are forgotten in a restart", file: "node/core/seen.go", short: true,
		old:   "		c.seen.until[k] = int64(until)",
		new:   "		_ = until",
		tests: storesTests, law: `law once-device broken`,
	},
}
