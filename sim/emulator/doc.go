// Package emulator is the user-space link emulator of Farhop: it stands
// between two real programs and makes loopback behave like a far, thin, lossy
// or intermittent link, without root and without kernel modules.
//
// It owns sockets: it receives datagrams and TCP connections at one address,
// holds them for the one-way delay of a [Profile], and hands them on to another
// address. It never looks into what it carries, and never carries anything
// earlier than the light time it was told.
//
// It is called by `farhop sim link`, by the demo, and by integration tests,
// which open several links in one process and cut them live.
//
//	l, err := emulator.Open(emulator.Config{
//		Listen: "127.0.0.1:0", To: "127.0.0.1:7330", Seed: 7,
//		Up:   emulator.Profile{Delay: 1280 * time.Millisecond, Loss: 0.01},
//		Down: emulator.Profile{Delay: 1280 * time.Millisecond},
//	})
//	go l.Run(ctx)
//	dial(l.Addr())
//	l.Cut(true) // far side of the moon
//
// # Model of a datagram
//
// Each direction is one wire with one bottleneck at its entry:
//
//	offered -> cut? -> contact open? -> queue (Rate, Queue) -> lost? -> Delay + jitter -> carried
//
// A datagram is under way once its last bit has left the bottleneck. What is
// under way arrives, whatever happens to the link afterwards; what still waits
// in the queue when the link is cut or its contact ends is dropped. The
// decisions live in shape.go and know neither sockets nor clocks.
//
// # Model of a TCP connection
//
// The emulator ends both connections and carries the bytes between them, so
// loss does not apply (a TCP peer never sees it; the retransmission delays it
// would cause are not imitated) and a closed contact or a cut stalls the bytes
// instead of dropping them. After healing they flow at once, where a real stack
// might still sit in a retransmission timeout. The handshake costs its round
// trip: the far side is dialled one Up.Delay after the client connected, and
// the client's first byte leaves one Down.Delay after that. Ends of
// connections, orderly or not, travel with the same delay as bytes.
//
// With Network "both", datagrams and TCP are two wires of the same profile:
// each has the whole Rate to itself.
package emulator
