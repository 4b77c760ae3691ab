package broker

import (
	"sync"
	"time"
)

// will is what a client wants said when it is lost (MQTT 5, 3.1.2.5).
type will struct {
	m     *Message
	delay uint32 // seconds
}

// wills holds those that wait for their delay. A will leaves here exactly
// once: cancelled, or fired.
type wills struct {
	mu      sync.Mutex
	waiting map[string]*waitingWill // by client
}

type waitingWill struct {
	c     *conn
	timer *time.Timer
}

func (w *wills) schedule(c *conn, delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = make(map[string]*waitingWill)
	}
	e := &waitingWill{c: c}
	w.waiting[c.client] = e
	e.timer = time.AfterFunc(delay, func() { w.fire(c.client, e) })
}

// take removes the client's will; only, unless nil, is the one expected.
func (w *wills) take(client string, only *waitingWill) *waitingWill {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.waiting[client]
	if e == nil || only != nil && e != only {
		return nil
	}
	delete(w.waiting, client)
	e.timer.Stop()
	return e
}

func (w *wills) cancel(client string) { w.take(client, nil) }

func (w *wills) fire(client string, only *waitingWill) {
	if e := w.take(client, only); e != nil {
		e.c.publishWill()
	}
}

// fireAll is for the shutdown, after which nobody would be left to fire them.
func (w *wills) fireAll() {
	w.mu.Lock()
	clients := make([]string, 0, len(w.waiting))
	for id := range w.waiting {
		clients = append(clients, id)
	}
	w.mu.Unlock()
	for _, id := range clients {
		w.fire(id, nil)
	}
}

// lost decides on the will of a connection that ended: none after a polite
// DISCONNECT or when the client is at another node now, else at once or after
// its delay, at the latest when the session ends. A takeover by a connection
// here is a loss (MQTT 5, 3.1.4), which a delay hides if the session goes on.
func (c *conn) lost() {
	if c.will == nil || c.polite || c.elsewhere.Load() {
		return
	}
	if delay := min(c.will.delay, c.expiry); delay > 0 {
		c.b.wills.schedule(c, time.Duration(delay)*time.Second)
		return
	}
	c.publishWill()
}

// publishWill sends the will through the same door as a publish of the client,
// behind what the client published before.
func (c *conn) publishWill() {
	m := c.will.m
	m.Client, m.Received = c.client, time.Now()
	p := &pending{m: m}
	c.mu.Lock()
	c.pending.push(p)
	c.pendBytes += m.Size()
	c.mu.Unlock()
	c.b.metrics.wills.Inc()
	c.submit(p)
}
