// Package emulator is the user-space link emulator of Farhop: it stands
// between two real programs and makes loopback behave like a far, thin, lossy
// or intermittent link, without root and without kernel modules.
//
// It owns sockets: it receives datagrams and TCP connections at one address,
// holds them for the one-way delay of a [Profile], and hands them on to another
// address. It never looks into what it carries, and never carries anything
// earlier than the light time it was told.
//
// It is called by `farhop sim link`, by the demo, by benchmarks and by
// integration tests, which open several links in one process and cut them live.
// What a link is like is in package desc below it, which reads the same from a
// file; docs/emulator.md is for users.
//
//	l, err := emulator.Open(emulator.Config{
//		Listen: "127.0.0.1:0", To: "127.0.0.1:7330", Seed: 7,
//		Up:   emulator.Profile{Delay: 1280 * time.Millisecond, Loss: 0.01, Burst: 10, Rate: 50e6, Overhead: 28},
//		Down: emulator.Profile{Delay: 1280 * time.Millisecond, Rate: 256e3, Overhead: 28},
//	})
//	go l.Run(ctx)
//	dial(l.Addr())
//	l.Cut(true) // far side of the moon
//
// # Model of a datagram
//
// Each direction is one wire with one bottleneck at its entry:
//
//	offered -> cut? -> contact open? -> MTU? -> queue (Rate or Trace, Queue)
//	        -> lost? -> Corrupt -> Delay + jitter, Reorder -> carried, Duplicate
//
// A datagram is under way once its last bit has left the bottleneck. What is
// under way arrives, whatever happens to the link afterwards but for a
// StateBlackhole; what still waits in the queue when the link is cut or its
// contact ends is dropped. The decisions live in shape.go, neck.go and
// mishap.go and know neither sockets nor clocks.
//
// A datagram is offered when the kernel got it, not when it was read, and
// sockets carry many with one system call, so that a machine that is busy with
// the programs at both ends distorts little. Stats say when it could not keep up
// (Overrun, Dropped.Memory).
//
// Each client has an upstream socket of its own. Rebind gives it another port,
// as a NAT does; the one before stays open, so that answers to it end in
// silence.
//
// # Model of a TCP connection
//
// The emulator ends both connections and carries the bytes between them, so
// loss does not apply (a TCP peer never sees it; the retransmission delays it
// would cause are not imitated) and a closed contact or a cut stalls the bytes
// instead of dropping them; a black hole also stalls what is under way. After
// healing they flow at once, where a real stack might still sit in a
// retransmission timeout. The handshake costs its round trip: the far side is
// dialled one Up.Delay after the client connected, and the client's first byte
// leaves one Down.Delay after that. Ends of connections, orderly or not, travel
// with the same delay as bytes.
//
// With Network "both", datagrams and TCP are two wires of the same profile:
// each has the whole Rate to itself.
package emulator
