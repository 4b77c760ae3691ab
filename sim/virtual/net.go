package virtual

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// Limits and defaults.
const (
	// Overhead are the headers of IP and UDP, which a rate counts, bytes.
	Overhead = 28

	maxHosts     = 4096
	defaultQueue = time.Second
	maxWaiting   = 256 << 20 // bytes under way to one socket or waiting in it
)

// Way is one direction between two hosts. The zero value is a perfect wire.
type Way struct {
	Delay  time.Duration // one way
	Jitter time.Duration // a packet takes up to so much longer, and may overtake
	Rate   int64         // bit/s of IP packets; 0: no limit
	Queue  time.Duration // longest wait at a Rate, beyond it packets are dropped; 0: 1 s
	Loss   float64       // share of packets
	Burst  float64       // packets lost in a row, on average; 0 and 1: each by itself

	InOrder  bool          // Jitter overtakes nothing
	MTU      int           // bytes of the largest IP packet; 0: no limit
	Contacts desc.Schedule // when packets may leave; zero: always
}

// Validate reports everything that is wrong.
func (w Way) Validate() error {
	var errs []error
	if w.Delay < 0 || w.Jitter < 0 || w.Rate < 0 || w.Queue < 0 {
		errs = append(errs, errors.New("delay, jitter, rate and queue must not be negative"))
	}
	if !(w.Loss >= 0 && w.Loss < 1) {
		errs = append(errs, fmt.Errorf("loss: %v is not in [0, 1)", w.Loss))
	}
	if w.Burst != 0 && (!(w.Burst >= 1) || w.Loss > w.Burst/(w.Burst+1)) {
		errs = append(errs, fmt.Errorf("burst: %v packets in a row, with one between them, are not a loss of %v", w.Burst, w.Loss))
	}
	return errors.Join(errs...)
}

// Config is what a Net needs.
type Config struct {
	Seed uint64 // of loss and jitter
	Way  Way    // between hosts for which Set says nothing else
}

// Stats are counts of packets.
type Stats struct {
	Sent      uint64 // by sockets
	Delivered uint64 // read from sockets
	Lost      uint64 // by chance
	Cut       uint64 // on ways that were cut when they left or would have arrived
	Queue     uint64 // at the bottleneck
	Nowhere   uint64 // to an address that nobody has, or has no more, and to closed sockets
	Full      uint64 // for want of room at the receiving socket
	Closed    uint64 // outside of contacts
	MTU       uint64 // larger than the way takes
}

// Net is a network of hosts, all of them with a way to each other.
type Net struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	def   Way
	hosts map[netip.AddrPort]*host // by home
	seen  map[netip.AddrPort]*host // by the address of a NAT
	lines map[line]*way
	stats Stats
	binds uint16 // addresses that NATs have given
	seq   uint64
}

type host struct {
	home, seen netip.AddrPort
	sock       *Socket // nil: closed
}

// line names a direction by the homes of its ends.
type line struct{ from, to netip.AddrPort }

type way struct {
	Way
	cut  bool
	bad  bool      // in a burst of losses
	busy time.Time // until then
	last time.Time // the latest arrival
}

// loses draws whether a packet is lost, with Gilbert's chain where it is in
// bursts: all are while it is bad.
func (w *way) loses(draw float64) bool {
	switch {
	case w.Burst <= 1:
		return draw < w.Loss
	case w.bad:
		w.bad = draw >= 1/w.Burst
	default:
		w.bad = draw < w.Loss/(w.Burst*(1-w.Loss))
	}
	return w.bad
}

// New makes a network without hosts.
func New(c Config) (*Net, error) {
	if err := c.Way.Validate(); err != nil {
		return nil, fmt.Errorf("virtual network: %w", err)
	}
	return &Net{
		rnd: rand.New(rand.NewPCG(c.Seed, 0x5eed)), def: c.Way,
		hosts: map[netip.AddrPort]*host{}, seen: map[netip.AddrPort]*host{}, lines: map[line]*way{},
	}, nil
}

// Listen opens the socket of a host. A host whose socket was closed keeps its
// ways and what its NAT gave it, as a machine does whose program restarts.
func (n *Net) Listen(home netip.AddrPort) (*Socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[home]
	switch {
	case !home.IsValid():
		return nil, errors.New("listen: want an address and a port")
	case h == nil && len(n.hosts) >= maxHosts:
		return nil, fmt.Errorf("listen on %s: the network has %d hosts, the limit", home, maxHosts)
	case h != nil && h.sock != nil:
		return nil, fmt.Errorf("listen on %s: the address is in use", home)
	case h == nil:
		h = &host{home: home, seen: home}
		n.hosts[home] = h
	}
	h.sock = newSocket(n, h)
	return h.sock, nil
}

// Set describes one direction; what is under way stays as it is.
func (n *Net) Set(from, to netip.AddrPort, w Way) error {
	if err := w.Validate(); err != nil {
		return fmt.Errorf("way from %s to %s: %w", from, to, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.way(line{from, to}).Way = w
	return nil
}

// Cut stops one direction or lets it carry again. What is under way when it is
// cut is lost if it would arrive before it carries again.
func (n *Net) Cut(from, to netip.AddrPort, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.way(line{from, to}).cut = cut
}

// Rebind makes a host's packets come from a new address, as when a NAT forgot
// it or a ship took another uplink. Packets to the old one are lost; those to
// its home still arrive. It returns the new address.
func (n *Net) Rebind(home netip.AddrPort) netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[home]
	if h == nil {
		return netip.AddrPort{}
	}
	delete(n.seen, h.seen)
	for {
		n.binds++
		h.seen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n.binds >> 13)}), 1024+n.binds&0x1fff)
		if n.seen[h.seen] == nil {
			n.seen[h.seen] = h
			return h.seen
		}
	}
}

// Stats returns the counts.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// way returns a direction; mu is held.
func (n *Net) way(l line) *way {
	w := n.lines[l]
	if w == nil {
		w = &way{Way: n.def}
		n.lines[l] = w
	}
	return w
}

// send takes a packet on its way, or loses it.
func (n *Net) send(from *host, b []byte, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Sent++
	far := n.hosts[to]
	if far == nil {
		far = n.seen[to]
	}
	if far == nil {
		n.stats.Nowhere++
		return
	}
	w, now := n.way(line{from.home, far.home}), time.Now()
	if !n.enters(w, len(b)+Overhead, now) {
		return
	}
	if w.Loss > 0 && w.loses(n.rnd.Float64()) {
		n.stats.Lost++
		return
	}
	due := w.busy.Add(w.Delay)
	if w.Jitter > 0 {
		due = due.Add(time.Duration(n.rnd.Int64N(int64(w.Jitter))))
	}
	if w.InOrder && due.Before(w.last) {
		due = w.last
	}
	w.last = due
	if far.sock == nil {
		n.stats.Nowhere++
		return
	}
	n.seq++
	if !far.sock.push(packet{data: append([]byte(nil), b...), from: from.seen, way: w, due: due, seq: n.seq}) {
		n.stats.Full++
	}
}

// enters reports whether a packet of a size gets through the bottleneck of a way,
// and books its time there.
func (n *Net) enters(w *way, size int, now time.Time) bool {
	switch {
	case w.cut:
		n.stats.Cut++
		return false
	case !w.Contacts.Open(now):
		n.stats.Closed++
		return false
	case w.MTU > 0 && size > w.MTU:
		n.stats.MTU++
		return false
	}
	if w.busy.Before(now) {
		w.busy = now
	}
	if w.Rate == 0 {
		return true
	}
	limit := w.Queue
	if limit == 0 {
		limit = defaultQueue
	}
	if w.busy.Sub(now) > limit {
		n.stats.Queue++
		return false
	}
	w.busy = w.busy.Add(time.Duration(size) * 8 * time.Second / time.Duration(w.Rate))
	return true
}

// arrived counts a packet that reached its socket and reports whether it came
// through.
func (n *Net) arrived(p packet) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.way.cut {
		n.stats.Cut++
		return false
	}
	n.stats.Delivered++
	return true
}

// closed frees the place of a socket.
func (n *Net) closed(s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.host.sock == s {
		s.host.sock = nil
	}
}
