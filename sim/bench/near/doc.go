// Package near measures two nodes side by side on one machine, where nothing is
// far: how long 64 bytes take through a TCP service and back, how much goes
// through it, and what that costs, over each layer of a link. Others that do the
// same are measured in the same rounds: a pair of nginx with mutual TLS, a pair
// of forwarders with nothing but stock quic-go, Nebula, and no pair at all.
// Every part is a process, the load and the server behind it too; Part is what
// the helping ones do. The command calls it; it opens no node by itself.
//
//	r, err := near.Run(ctx, near.Config{Farhop: program, Part: []string{program, "bench", "near-part"}, Dir: dir, Time: 3 * time.Second, Rounds: 3}, note)
package near
