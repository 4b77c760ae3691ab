// Package attack is clients of a broker that behave as badly as clients can:
// they do not read, do not speak, steal each other's ids, subscribe to
// everything, flood, and send what is no packet. It shows what they cost
// others; package sim/bench/mqtt runs it as a process of its own beside
// well-behaved clients and measures those.
//
// It owns its connections and counts of what it did and of how it was refused.
// It never measures anything and expects nothing: to be cut off is part of it.
//
//	err := attack.Run(ctx, "reconnects", "127.0.0.1:1883", os.Stdout)
package attack
