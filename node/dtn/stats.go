package dtn

import (
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// counters count what one peer, or all together, did.
type counters struct {
	bundlesIn, bytesIn, bundlesOut, bytesOut atomic.Int64
	messagesIn, segmentsOut                  atomic.Int64
	rejectsIn, rejectsOut                    atomic.Int64
	refusalsIn, refusalsOut                  atomic.Int64
	refusals                                 [refuseTerminating + 1]atomic.Int64 // out, by reason
	budgetRefusals                           atomic.Int64
	lost                                     atomic.Int64
}

func (c *counters) refused(reason byte) {
	c.refusalsOut.Add(1)
	if int(reason) < len(c.refusals) {
		c.refusals[reason].Add(1)
	}
}

// Stats are counts since the Door was made. In is what peers sent to us.
type Stats struct {
	BundlesIn, BytesIn   int64 // complete and handed to the Sink
	BundlesOut, BytesOut int64 // acknowledged; on STCP and MTCP written
	MessagesIn           int64 // TCPCL messages of all types
	RefusalsIn           int64 // XFER_REFUSE received
	RefusalsOut          int64 // XFER_REFUSE sent
	RejectsIn            int64 // MSG_REJECT received
	RejectsOut           int64 // MSG_REJECT sent
	Dropped              int64 // arrived over STCP or MTCP and not wanted
	// RefusedFor counts RefusalsOut by reason code (RFC 9174, section 9.6).
	RefusedFor [refuseTerminating + 1]int64
}

func (c *counters) snapshot() Stats {
	s := Stats{
		BundlesIn: c.bundlesIn.Load(), BytesIn: c.bytesIn.Load(),
		BundlesOut: c.bundlesOut.Load(), BytesOut: c.bytesOut.Load(),
		MessagesIn: c.messagesIn.Load(), RefusalsIn: c.refusalsIn.Load(), RefusalsOut: c.refusalsOut.Load(),
		RejectsIn: c.rejectsIn.Load(), RejectsOut: c.rejectsOut.Load(), Dropped: c.lost.Load(),
	}
	for i := range s.RefusedFor {
		s.RefusedFor[i] = c.refusals[i].Load()
	}
	return s
}

// PeerState is a row of a view of peers.
type PeerState struct {
	Name    string
	Kind    Kind
	Address string // configured, "" when the peer dials us
	EIDs    []string

	Up            bool
	Since         time.Time // of the newest session
	Sessions      int
	Remote        string
	Node          addr.EID // as announced
	Authenticated bool     // by certificate
	Kex           string   // TLS key exchange, "" without TLS
	TransferMRU   uint64   // largest bundle the peer takes, bytes
	SegmentMRU    uint64
	Keepalive     time.Duration
	RTT           time.Duration // as measured when the session began
	InFlight      int           // transfers to the peer that are not answered

	LastError string    // why the last session or attempt ended
	NextDial  time.Time // zero: not waiting to dial
	Stats
}

// DoorStats is a Door as a whole.
type DoorStats struct {
	Sessions       int   // inbound, handshakes included
	Held           int64 // received bytes held
	BudgetRefusals int64 // transfers refused because Limits.Buffer was used up
	TurnedAway     int64 // connections closed because Limits.Sessions was reached
	Strangers      Stats // nodes without a configured peer
}
