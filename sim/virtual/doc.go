// Package virtual carries packets between sockets that are memory: the network
// of tests that run real transports, QUIC and salvo with TLS, in the virtual
// time of testing/synctest, where an hour of light passes in no time. Nothing in
// it blocks on anything but channels and timers, as a bubble needs it.
//
//	n, err := virtual.New(virtual.Config{Seed: 7, Way: virtual.Way{Delay: 1280 * time.Millisecond, Loss: 0.01, Rate: 50e6}})
//	a, err := n.Listen(netip.MustParseAddrPort("192.0.2.1:7330"))
//	n.Cut(a.Home(), b.Home(), true) // one direction only
//	n.Rebind(a.Home())              // others see a at another address from now on
//
// A host is known by its home, the address others dial. Its packets come from
// the address that a NAT gave it, which is its home until it is rebound. The
// emulator does the same to real sockets in real time, with more kinds of
// mishap (package emulator).
package virtual
