package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// Limits of pings.
const (
	MaxPings       = 8   // open at a time
	MaxPingWaiting = 256 // questions of one ping without an answer; beyond it the next ones wait
)

// PingRequest asks for round trips to a node of the mesh.
type PingRequest struct {
	Node     addr.Node       `json:"node"`
	Count    int             `json:"count,omitempty"`   // questions; 0: until the client leaves
	Interval config.Duration `json:"interval,omitzero"` // between two; 0: a second
	Class    string          `json:"class,omitempty"`   // "": interactive
	Timeout  config.Duration `json:"timeout,omitzero"`  // for each answer; 0: as the path explains
}

// What a PingEvent tells.
const (
	PingOpen    = "open"    // it begins
	PingPath    = "path"    // the way there is another one than was told last
	PingAnswer  = "answer"  // of Seq
	PingSilent  = "silent"  // no answer to Seq in time; one may still come
	PingRefused = "refused" // the question Seq was not taken, for Reason
)

// PingEvent is one thing that happened to a ping.
type PingEvent struct {
	At    time.Time `json:"at"` // by the node's clock
	Event string    `json:"event"`
	Node  addr.Node `json:"node"` // that is asked
	Class string    `json:"class,omitempty"`

	Seq     int      `json:"seq,omitempty"`      // of the question, from 1
	RTTms   float64  `json:"rtt_ms,omitempty"`   // of an answer: from the question to it, ms
	ThereMS *float64 `json:"there_ms,omitempty"` // of it the way there, as far as both clocks agree
	There   int      `json:"there,omitempty"`    // links the question went over
	Back    int      `json:"back,omitempty"`     // and the answer
	Late    bool     `json:"late,omitempty"`     // it was told to be silent before
	Reason  string   `json:"reason,omitempty"`

	Path *Way `json:"path,omitempty"` // of open and path; of an answer, as it is when that comes
}

// Way is the path to a node as it is known here.
type Way struct {
	Up         bool      `json:"up"`   // every link of it is up
	Hops       int       `json:"hops"` // 0 without a path
	NextHop    addr.Node `json:"next_hop,omitzero"`
	Layer      string    `json:"layer,omitempty"`       // of the link to it
	LinkRTTms  float64   `json:"link_rtt_ms,omitempty"` // likewise: its round trip, measured by the link itself
	ExpectedMS float64   `json:"expected_ms"`           // round trip by what the links say
	PatienceMS float64   `json:"patience_ms,omitempty"` // for an answer; 0: without end, while the path is not up
}

func (s *Server) ping(w http.ResponseWriter, req *http.Request) {
	stream(s, w, req, func(ctx context.Context, in PingRequest, f func(PingEvent) error) error {
		return s.cfg.Backend.Ping(ctx, in, f)
	})
}

// Ping calls f with what happens to a ping until it is over, ctx ends or f
// fails.
func (c *Client) Ping(ctx context.Context, r PingRequest, f func(PingEvent) error) error {
	return follow(ctx, c, "/api/v1/ping", r, f)
}
