package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

const (
	// receiptProperty is the user property that asks for receipts at a topic.
	receiptProperty = "farhop-receipt"
	receiptTopics   = "$mesh/receipts/"
)

// receipt is the final word on a message in one region; docs/mqtt.md tells
// what is in it.
type receipt struct {
	Message   string  `json:"message"`
	Region    string  `json:"region"`
	State     string  `json:"state"`
	Reason    string  `json:"reason"` // ok, or why it ended
	Node      string  `json:"node,omitempty"`
	Delivered int     `json:"delivered"`
	Expired   int     `json:"expired"`
	Refused   int     `json:"refused"`
	Last      bool    `json:"last,omitempty"`       // no other region has a word to come
	Latency   float64 `json:"latency_ms,omitempty"` // since it was published; 0: not known
	came      time.Time
}

// text is one line without its end. Counts are told where there is more than
// one recipient.
func (r receipt) text() string {
	s := fmt.Sprintf("receipt %s %s %s", cmp.Or(clean(r.Message, 0), "-"), clean(r.Region, 0), clean(r.State, 0))
	if r.Reason != "ok" && r.Reason != r.State {
		s += " (" + clean(r.Reason, 0) + ")"
	}
	if r.Node != "" {
		s += " at " + clean(r.Node, 0)
	}
	if r.Latency > 0 {
		s += " after " + spanText(time.Duration(r.Latency*float64(time.Millisecond)))
	}
	if r.Delivered+r.Expired+r.Refused > 1 {
		s += fmt.Sprintf(": %d delivered, %d expired, %d refused", r.Delivered, r.Expired, r.Refused)
	}
	return s
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
	ended bool       // enough is closed
	all   bool       // everything was published
	open  int        // messages that were answered, without those whose last receipt came
	early []receipt  // came before the answer to their publish, so that nobody knows yet when that was
	n     int
	err   error                // of printing
	began map[string]time.Time // of messages whose receipts may come
}

func newReceipts(a *app, p *pubFlags) *receipts {
	return &receipts{app: a, topic: receiptTopics + randomID(), json: *p.json, wanted: p.receipts, wait: p.wait, enough: make(chan struct{}), began: map[string]time.Time{}}
}

// sent notes when a message was published that is answered now; id is "" where
// the broker does not say it.
func (r *receipts) sent(id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	if id != "" && len(r.began) < maxBegan {
		r.began[id] = at
	}
	r.early = slices.DeleteFunc(r.early, func(got receipt) bool {
		if got.Message == id {
			r.print(got)
		}
		return got.Message == id
	})
}

// published says that all was: receipts that are held back are printed.
func (r *receipts) published() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = true
	for _, got := range r.early {
		r.print(got)
	}
	r.early = nil
	r.end()
}

// end tells await when no more is to come. The caller holds mu.
func (r *receipts) end() {
	if enough := r.wanted > 0 && r.n >= r.wanted || r.all && r.open <= 0; enough && !r.ended {
		r.ended = true
		close(r.enough)
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
	got.came = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.began[got.Message]; !known && !r.all && len(r.early) < maxOpen {
		r.early = append(r.early, got)
	} else {
		r.print(got)
	}
	r.n++
	if got.Last {
		r.open-- // below zero when it comes before the answer to its publish
	}
	r.end()
}

// print writes a receipt with the time it took by one clock, this machine's.
func (r *receipts) print(got receipt) {
	got.Latency = 0
	if at, ok := r.began[got.Message]; ok {
		got.Latency = float64(got.came.Sub(at)) / float64(time.Millisecond)
	}
	var err error
	if r.json {
		err = printLine(r.app.out, struct {
			Receipt receipt `json:"receipt"`
		}{got})
	} else {
		_, err = fmt.Fprintln(r.app.out, got.text())
	}
	if r.err == nil {
		r.err = err
	}
}

// await returns when enough receipts have come, when all have, or when the time
// is over.
func (r *receipts) await(ctx context.Context) error {
	r.published()
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
	want := max(r.wanted, 1)
	switch {
	case r.err != nil || r.n >= want:
		return r.err
	case r.ended:
		return &failure{exitNothing, fmt.Errorf("%d of %s came, and no more will: that was the last", r.n, count(want, "receipt", "receipts")), "want fewer with --receipts"}
	}
	return &failure{exitNothing, fmt.Errorf("%d of %s came within %s", r.n, count(want, "receipt", "receipts"), r.wait), "farhop why MESSAGE tells where the message is; --wait waits longer"}
}
