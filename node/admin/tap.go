package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// Limits of taps.
const (
	MaxTaps       = 8       // open at a time
	TapRing       = 4096    // events that wait for a slow reader; more are lost, and counted
	TapRingBytes  = 8 << 20 // of payloads in these
	MaxTapPayload = 64 << 10
)

// TapRequest asks for what happens to messages.
type TapRequest struct {
	Filter  string `json:"filter"`
	Payload bool   `json:"payload,omitempty"` // with payloads, of at most MaxTapPayload bytes
	Count   int    `json:"count,omitempty"`   // events after which it ends; 0: none
}

// TapEvent is one thing that happened to a message.
type TapEvent struct {
	At time.Time `json:"at"` // by the node's clock
	// Event is open, which comes first; accepted or refused, of what a client
	// published; arrived, from another node or this one itself; delivered, written to a client;
	// acknowledged, by the client of a persistent session; dropped, a delivery
	// to a client; forwarded, a neighbour took it; ended, otherwise.
	Event     string    `json:"event"`
	Reason    string    `json:"reason,omitempty"`  // of accepted, refused, arrived and ended, or why it was dropped
	Message   string    `json:"message,omitempty"` // id
	Topic     string    `json:"topic,omitempty"`
	Client    string    `json:"client,omitempty"` // who published it, or who got it
	Node      addr.Node `json:"node,omitzero"`    // where it came from, or which took it; of open, this one
	QoS       int       `json:"qos"`
	Retain    bool      `json:"retain,omitempty"`
	Size      int       `json:"size"` // bytes of the payload; where only that is at hand, with all it travels with
	Class     string    `json:"class,omitempty"`
	To        []string  `json:"to,omitempty"`   // queues it went to
	Live      int       `json:"live,omitempty"` // clients here that got it at once
	Queue     string    `json:"queue,omitempty"`
	Payload   []byte    `json:"payload,omitempty"`   // base64 in JSON
	Truncated bool      `json:"truncated,omitempty"` // Payload is its beginning
	Lost      uint64    `json:"lost,omitempty"`      // events before this one that were not kept for a slow reader
}

func (s *Server) tap(w http.ResponseWriter, req *http.Request) {
	stream(s, w, req, func(ctx context.Context, in TapRequest, f func(TapEvent) error) error {
		return s.cfg.Backend.Tap(ctx, in, f)
	})
}

// stream answers with events, a JSON value a line, until the client leaves, the
// server ends, or do has no more.
func stream[In, Event any](s *Server, w http.ResponseWriter, req *http.Request, do func(context.Context, In, func(Event) error) error) {
	in, err := decode[In](req)
	if err != nil {
		s.fail(w, req, err)
		return
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with this request
		select {
		case <-s.ends:
			cancel()
		case <-stop:
		}
	}()
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // that of the request; nothing more is read
	began := false
	err = do(ctx, in, func(e Event) error {
		if !began {
			began = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(append(data, '\n')); err != nil {
			return err
		}
		return rc.Flush()
	})
	if !began && err != nil && ctx.Err() == nil {
		s.fail(w, req, err)
	}
}
