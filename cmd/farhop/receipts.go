package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

const (
	// receiptProperty is the user property that asks for receipts at a topic.
	receiptProperty = "farhop-receipt"
	receiptTopics   = "$mesh/receipts/"
)

// receipt is what a consuming node says of a message.
type receipt struct {
	Message string  `json:"message"`
	Node    string  `json:"node"`
	Reason  string  `json:"reason"` // ok, or why it ended
	Latency float64 `json:"latency_ms"`
}

// receipts prints the receipts of one farhop pub as they arrive.
type receipts struct {
	app    *app
	topic  string
	json   bool
	wanted int // 0: all that come
	wait   time.Duration
	enough chan struct{}

	mu    sync.Mutex // guards what follows
	n     int
	err   error                // of printing
	began map[string]time.Time // of messages whose receipts may come
}

func newReceipts(a *app, p *pubFlags) *receipts {
	return &receipts{app: a, topic: receiptTopics + randomID(), json: *p.json, wanted: p.receipts, wait: p.wait, enough: make(chan struct{}), began: map[string]time.Time{}}
}

// sent notes when a message was published.
func (r *receipts) sent(id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.began) < maxBegan {
		r.began[id] = at
	}
}

// maxBegan bounds the messages whose way is timed.
const maxBegan = 100_000

// take prints one receipt. The MQTT client calls it, while messages are still
// being published.
func (r *receipts) take(m *paho.Publish) {
	if m.Topic != r.topic {
		return
	}
	var got receipt
	if err := json.Unmarshal(m.Payload, &got); err != nil {
		r.app.note("a receipt cannot be read: %v", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.began[got.Message]; ok { // by one clock, this machine's
		got.Latency = float64(time.Since(at)) / float64(time.Millisecond)
	}
	var err error
	if r.json {
		err = printLine(r.app.out, struct {
			Receipt receipt `json:"receipt"`
		}{got})
	} else {
		late := spanText(time.Duration(got.Latency * float64(time.Millisecond)))
		_, err = fmt.Fprintf(r.app.out, "receipt %s %s %s after %s\n", clean(got.Message, 0), clean(got.Node, 0), clean(got.Reason, 0), late)
	}
	if r.n++; r.err == nil {
		r.err = err
	}
	if r.n == r.wanted {
		close(r.enough)
	}
}

// await returns when enough receipts have come or the time is over.
func (r *receipts) await(ctx context.Context) error {
	t := time.NewTimer(r.wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.enough:
	case <-t.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := max(r.wanted, 1); r.err == nil && r.n < want {
		return &failure{exitNothing, fmt.Errorf("%d of %s came within %s", r.n, count(want, "receipt", "receipts"), r.wait), "farhop why MESSAGE tells where the message is; --wait waits longer"}
	}
	return r.err
}
