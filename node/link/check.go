package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/farhop/farhop/routing/addr"
)

// A check is a connection of its own, with ALPNCheck, on which nothing is
// carried: the end that asks sends lines of JSON, and the other one answers each
// at once with what it sees. The link between the two is not touched. The path
// is looked at by QUIC itself, which searches its MTU and tries whether ECN
// passes.

// Limits of checks.
const (
	maxCheckLine = 1 << 10
	maxCheckAsks = 256 // that are answered on one connection
	checkTrips   = 80  // round trips spent at most, of which the search for the MTU needs most
	quickTrips   = 5
	mtuStep      = 21   // bytes: nearer the search does not go
	leastMTU     = 1280 // of a UDP payload, which the handshake has shown to pass
)

// What a check says of ECN in one direction.
const (
	ECNKept    = "kept"    // marks arrive
	ECNLost    = "lost"    // they were sent, and something on the way took them away
	ECNNone    = "none"    // no packet that came had one: not sent, or taken away
	ECNUnknown = "unknown" // it could not be seen
)

// What a check says of an address translation on the way.
const (
	NATNone    = "none"
	NATYes     = "yes"  // the peer sees another address
	NATPort    = "port" // another port alone
	NATUnknown = "unknown"
)

// CheckRequest asks what passes towards one address.
type CheckRequest struct {
	Peer     Peer
	TLS      *tls.Config // names ALPNCheck
	Identify func(tls.ConnectionState) (Identity, error)
	Quick    bool // no search for the MTU
}

// Check is what passes from here to a peer, as far as it could be seen.
type Check struct {
	Addresses []netip.Addr // the name resolves to these
	Resolved  time.Duration
	To        string // the address that was tried

	UDP       bool   // QUIC was answered there
	Cause     string // why there is no answer, or no check, in a word; "" when all is well
	Error     string // likewise, for people
	Old       bool   // the peer is a node that knows no checks
	Handshake time.Duration
	RTT       time.Duration // the smallest of the exchanges, 0: none
	Peer      Identity
	Software  string
	Expires   time.Time // of the peer's certificate

	MTU       int  // bytes of UDP payload that pass at least; 0: not known
	MTUDone   bool // no larger ones do, or none larger are used
	ECNOut    string
	ECNIn     string
	Congested int           // packets that came with the mark of congestion
	Offset    time.Duration // of the peer's clock to ours
	Within    time.Duration // so much the offset may be wrong, 0: not known
	Local     string        // our address as we know it
	Seen      string        // as the peer sees it
	NAT       string

	TCP      string        // whether a TCP connection to the same port comes up
	TCPTook  time.Duration // to be made
	TCPError string
}

// What a check says of TCP.
const (
	TCPOpen    = "open"    // a connection came up
	TCPRefused = "refused" // it was answered, but nobody listens
	TCPSilent  = "silent"  // no answer
	TCPFailed  = "failed"  // it could not be tried
)

// checkAsk and checkAnswer are the lines. Times are Unix nanoseconds by the
// clock of the end that writes them.
type checkAsk struct {
	Sent int64 `json:"sent"`
}

type checkAnswer struct {
	Came     int64          `json:"came"`
	Sent     int64          `json:"sent"`
	Seen     netip.AddrPort `json:"seen"`
	Software string         `json:"software"`
}

// serveCheck answers a check.
func (m *Manager) serveCheck(ctx context.Context, conn carrier) {
	peer, err := m.identify(conn, addr.Node{})
	if err != nil {
		m.logRefused(conn, err)
		hangUp(conn, downOf(err))
		return
	}
	select {
	case m.checks <- struct{}{}:
		defer func() { <-m.checks }()
	default:
		hangUp(conn, down(Busy, "too many checks at once, try again"))
		return
	}
	cctx, cancel := context.WithTimeout(ctx, max(joinTime, 3*checkTrips*conn.Stats().RTT))
	defer cancel()
	defer context.AfterFunc(cctx, func() { hangUp(conn, down(Shutdown, "out of time")) })()
	st, err := conn.AcceptStream(cctx)
	if err == nil {
		err = answerCheck(st, conn.RemoteAddr(), m.cfg.Hello.Software)
	}
	m.cfg.Log.Debug("a peer checked what passes", "peer", peer.Node, "from", conn.RemoteAddr(), "err", err)
	hangUp(conn, down(Closed, "done"))
}

func answerCheck(st io.ReadWriter, from net.Addr, software string) error {
	r := bufio.NewReaderSize(st, maxCheckLine)
	for range maxCheckAsks {
		var ask checkAsk
		if err := readCheck(r, &ask); err != nil {
			return err
		}
		ans := checkAnswer{Came: time.Now().UnixNano(), Software: software}
		if u, ok := from.(*net.UDPAddr); ok {
			ap := u.AddrPort()
			ans.Seen = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
		}
		ans.Sent = time.Now().UnixNano()
		if err := writeCheck(st, ans); err != nil {
			return err
		}
	}
	return errors.New("it asks too often")
}

func writeCheck(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	return err
}

// readCheck reads one line of at most maxCheckLine bytes.
func readCheck(r *bufio.Reader, v any) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read a line of a check: %w", err)
	}
	return json.Unmarshal(line, v)
}

// watcher reads of a connection's events what nothing else tells. It is a
// trace of qlog, of which nothing is written.
type watcher struct {
	mu   sync.Mutex // guards what follows
	mtu  int
	done bool
	over map[qlog.PacketNumber]int // size of packets that tried a larger MTU
	ecn  qlog.ECNState
	in   map[qlog.ECN]int
}

// AddProducer implements qlogwriter.Trace.
func (w *watcher) AddProducer() qlogwriter.Recorder { return w }

// Close implements qlogwriter.Recorder.
func (w *watcher) Close() error { return nil }

// RecordEvent implements qlogwriter.Recorder.
func (w *watcher) RecordEvent(e qlogwriter.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := e.(type) {
	case qlog.MTUUpdated:
		w.mtu, w.done = max(w.mtu, e.Value), e.Done
	case qlog.PacketSent:
		if e.IsMTUProbePacket {
			w.over[e.Header.PacketNumber] = e.Raw.Length
		}
	case qlog.PacketLost:
		if size, ok := w.over[e.Header.PacketNumber]; ok && e.IsMTUProbePacket {
			w.done = w.done || size-max(w.mtu, leastMTU) <= mtuStep
		}
	case qlog.ECNStateUpdated:
		w.ecn = e.State
	case qlog.PacketReceived:
		w.in[e.ECN]++
	}
}

func newWatcher() *watcher {
	return &watcher{over: map[qlog.PacketNumber]int{}, in: map[qlog.ECN]int{}}
}

func (w *watcher) searched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// note fills in what was seen.
func (w *watcher) note(c *Check, quick bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.MTU, c.MTUDone = max(w.mtu, leastMTU), w.done && !quick
	c.ECNOut, c.ECNIn = ECNUnknown, ECNUnknown
	switch w.ecn {
	case qlog.ECNStateCapable:
		c.ECNOut = ECNKept
	case qlog.ECNStateFailed:
		c.ECNOut = ECNLost
	case qlog.ECNStateTesting, qlog.ECNStateUnknown:
	}
	c.Congested = w.in[qlog.ECNCE]
	switch {
	case w.in[qlog.ECT0]+w.in[qlog.ECT1]+w.in[qlog.ECNCE] > 0:
		c.ECNIn = ECNKept
	case w.in[qlog.ECTNot] > 0:
		c.ECNIn = ECNNone
	}
}
