package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// NetcheckRequest asks what passes to peers.
type NetcheckRequest struct {
	// Peers are names or addresses of configured peers, or other addresses
	// HOST:PORT; none: all configured ones.
	Peers []string `json:"peers,omitempty"`
	Quick bool     `json:"quick,omitempty"` // without the search for the largest packet
}

// MaxNetcheck is how many peers one request may name.
const MaxNetcheck = 64

// Netcheck is what passes to one peer, as far as it could be seen. Times are
// ms.
type Netcheck struct {
	Node     addr.Node   `json:"node,omitzero"`   // that answered; else the one expected there
	Region   addr.Region `json:"region,omitzero"` // of the one that answered
	Address  string      `json:"address"`         // as configured
	Software string      `json:"software,omitempty"`
	Running  bool        `json:"running"`        // it was looked from the socket of the running node
	Note     string      `json:"note,omitempty"` // what to know of this result

	DNS       NetcheckDNS       `json:"dns"`
	UDP       NetcheckUDP       `json:"udp"`
	TCP       NetcheckTCP       `json:"tcp"`
	MTU       NetcheckMTU       `json:"mtu"`
	ECN       NetcheckECN       `json:"ecn"`
	Clock     NetcheckClock     `json:"clock"`
	NAT       NetcheckNAT       `json:"nat"`
	Certified NetcheckCertified `json:"certificates"`
}

// NetcheckDNS is what the name of the address resolves to.
type NetcheckDNS struct {
	Addresses []string `json:"addresses"`
	TookMS    float64  `json:"took_ms"`
}

// NetcheckUDP is whether QUIC was answered.
type NetcheckUDP struct {
	OK          bool    `json:"ok"`
	Address     string  `json:"address,omitempty"` // of those of DNS, the one that was tried last
	HandshakeMS float64 `json:"handshake_ms,omitempty"`
	RTTms       float64 `json:"rtt_ms,omitempty"` // the smallest
	Kex         string  `json:"kex,omitempty"`    // key exchange
	Old         bool    `json:"old,omitempty"`    // it answers, but knows no checks: the rest is unknown
	Cause       string  `json:"cause,omitempty"`  // a word for Error
	Error       string  `json:"error,omitempty"`  // why there was no answer, or no check
}

// NetcheckTCP is whether a TCP connection to the same port comes up.
type NetcheckTCP struct {
	State  string  `json:"state"` // open, refused, silent, failed or unknown
	TookMS float64 `json:"took_ms,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// NetcheckMTU is the size of the packets that pass.
type NetcheckMTU struct {
	Payload int  `json:"payload,omitempty"` // bytes in a UDP packet that pass; 0: unknown
	IP      int  `json:"ip,omitempty"`      // with the headers of UDP and IP
	Done    bool `json:"done"`              // larger ones do not pass, or none are used; false: the search did not end
}

// NetcheckECN is whether the marks of congestion survive the way.
type NetcheckECN struct {
	Out       string `json:"out"`                 // to the peer: kept, lost or unknown
	In        string `json:"in"`                  // from it: kept, none or unknown; none: not sent, or lost
	Congested int    `json:"congested,omitempty"` // packets that came marked
}

// NetcheckClock is the offset of the peer's clock.
type NetcheckClock struct {
	Known    bool    `json:"known"`
	OffsetMS float64 `json:"offset_ms"` // the peer's is ahead by this
	WithinMS float64 `json:"within_ms"` // so much it may be wrong: half a round trip
}

// NetcheckNAT is whether addresses are translated on the way.
type NetcheckNAT struct {
	State string `json:"state"`           // none, yes, port or unknown
	Local string `json:"local,omitempty"` // our address as we know it
	Seen  string `json:"seen,omitempty"`  // as the peer sees it
}

// NetcheckCertified is when the certificates end.
type NetcheckCertified struct {
	Ours   time.Time `json:"ours"`
	Theirs time.Time `json:"theirs,omitzero"` // zero: not seen
}

func (s *Server) netcheck(w http.ResponseWriter, req *http.Request) {
	stream(s, w, req, func(ctx context.Context, in NetcheckRequest, f func(Netcheck) error) error {
		return s.cfg.Backend.Netcheck(ctx, in, f)
	})
}

// Netcheck calls f with what passes to each peer, as it is known.
func (c *Client) Netcheck(ctx context.Context, r NetcheckRequest, f func(Netcheck) error) error {
	return follow(ctx, c, "/api/v1/netcheck", r, f)
}
