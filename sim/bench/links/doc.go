// Package links measures what a link between two nodes carries: real sessions
// over real sockets of this machine, with the emulator between them. The nodes
// are link managers alone, without stores and cores, so that what is measured
// is the link.
//
//	r, err := links.Run(ctx, links.Config{Delay: 1280 * time.Millisecond, Rate: 50e6, Loss: 0.01, Bytes: 64 << 20}, note)
package links
