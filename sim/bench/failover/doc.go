// Package failover measures how fast nodes go around a link that became a
// black hole: three processes in a triangle of emulated wires, a steady stream
// of messages from one to another, and cuts of the wire between them.
//
//	r, err := failover.Run(ctx, failover.Config{Farhop: program, Dir: dir, Cuts: 100}, note)
package failover
