package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDevicesUnderStress has publishers of all QoS and subscribers of all kinds
// work on the same topics, while connections break, are taken over, and
// sessions that outlive them come and go, so that a topic's messages pass the
// core at one moment and not at the next. Then:
//
//   - a session that outlives its connections has each message of QoS 1 at
//     least once and of QoS 2 exactly once, as has a live one that never broke;
//   - whoever it is, what comes of one publisher, topic and QoS is in order.
func TestDevicesUnderStress(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			newStress(t, seed).run()
		})
	}
}

const (
	stressTopics    = 4
	stressMessages  = 360 // of each publisher
	stressPatience  = time.Minute
	stressBurst     = 16
	stressTravelers = 3
)

type stress struct {
	t       *testing.T
	n       *Node
	seed    uint64
	quit    chan struct{} // closed when the travelers may go home
	readers sync.WaitGroup
	writers sync.WaitGroup
}

func newStress(t *testing.T, seed uint64) *stress {
	t.Helper()
	n, err := Open(filepath.Join(t.TempDir(), "node"), Options{
		Log: testLog(t), Version: "test", Standalone: &Standalone{MQTT: "127.0.0.1:0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-n.broker.Listening()
	return &stress{t: t, n: n, seed: seed, quit: make(chan struct{})}
}

// device makes a client; nth tells those of the same name apart.
func (s *stress) device(name string, nth int) *device {
	d := &device{s: s, id: fmt.Sprint(name, nth), seen: map[string]*record{}, held: map[uint16]bool{}}
	d.rng = rand.New(rand.NewPCG(s.seed, uint64(len(name)*100+nth)))
	return d
}

func (s *stress) run() {
	var durable, live []*device
	for i := range 2 {
		d := s.device("durable", i)
		d.durable, d.restless, d.filter = true, true, "t/#"
		durable = append(durable, d)
	}
	durable[1].filter = "t/0" // the others pass the core only as long as somebody else wants that
	durable[0].filter = "t/1"
	for i := range 4 {
		d := s.device("live", i)
		d.restless, d.filter = i >= 2, "t/#"
		live = append(live, d)
	}
	for _, d := range slices.Concat(durable, live) {
		ready := make(chan struct{})
		s.readers.Go(func() { d.subscriber(ready) })
		<-ready
	}
	for i := range stressTravelers {
		d := s.device("traveler", i)
		s.readers.Go(d.traveler)
	}
	for i := range 4 {
		d := s.device("publisher", i)
		d.durable, d.restless = true, i%2 == 1
		s.writers.Go(d.publisher)
	}
	s.writers.Wait()
	for _, d := range slices.Concat(durable, live[:2]) {
		d.complete()
	}
	close(s.quit)
	s.readers.Wait()
	for _, d := range slices.Concat(durable, live) {
		d.judge()
	}
}

// complete waits until the device has all messages of QoS 1 and 2 that its
// filter matches.
func (d *device) complete() {
	d.s.t.Helper()
	topics := stressTopics
	if d.filter != "t/#" {
		topics = 1
	}
	want := 4 * topics * stressMessages / stressTopics * 2 / 3
	for end := time.Now().Add(stressPatience); ; time.Sleep(5 * time.Millisecond) {
		have := 0
		d.mu.Lock()
		for key, r := range d.seen {
			if !strings.HasSuffix(key, " 0") {
				have += len(r.count)
			}
		}
		d.mu.Unlock()
		if have >= want {
			return
		}
		if time.Now().After(end) {
			d.s.t.Errorf("%s has %d of %d messages", d.id, have, want)
			return
		}
	}
}

// record is what a device got of one publisher, topic and QoS.
type record struct {
	newest int
	count  map[int]int
	fault  string
}

// judge holds what a device got against the laws.
func (d *device) judge() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, r := range d.seen {
		if r.fault != "" {
			d.s.t.Errorf("%s, %s: %s", d.id, key, r.fault)
		}
		if d.restless && !d.durable || strings.HasSuffix(key, " 1") {
			continue
		}
		for n, count := range r.count {
			if count != 1 {
				d.s.t.Errorf("%s, %s: message %d came %d times", d.id, key, n, count)
			}
		}
	}
}

// got notes a delivery. A message of QoS 1 may come again, but no message may
// come for the first time after a newer one.
func (d *device) got(topic string, qos byte, payload string) {
	var publisher string
	var n int
	if _, err := fmt.Sscan(payload, &publisher, &n); err != nil {
		d.s.t.Errorf("%s: payload %q: %v", d.id, payload, err)
		return
	}
	key := fmt.Sprint(publisher, " ", topic, " ", qos)
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.seen[key]
	if r == nil {
		r = &record{newest: -1, count: map[int]int{}}
		d.seen[key] = r
	}
	if r.count[n]++; r.count[n] == 1 && n < r.newest && r.fault == "" {
		r.fault = fmt.Sprintf("message %d after %d", n, r.newest)
	}
	r.newest = max(r.newest, n)
}

// subscriber reads until the end, and breaks off now and then if it is
// restless: it closes, or connects again beside the old connection.
func (d *device) subscriber(ready chan struct{}) {
	var old net.Conn
	for first := true; ; first = false {
		present := d.connect(!d.durable)
		if old != nil {
			_ = old.Close()
			old = nil
		}
		if d.durable && !first && !present {
			d.s.t.Errorf("%s: the session is gone", d.id)
		}
		if !present {
			d.forget()
			d.subscribe(d.filter, 2)
		}
		if first {
			close(ready)
		}
		most := 1 << 30
		if d.restless {
			most = d.rng.IntN(150)
		}
		if d.read(most) {
			return
		}
		if d.rng.IntN(2) == 0 {
			_ = d.conn.Close()
		} else {
			old = d.conn
		}
	}
}

// forget begins anew: a session that ended with its connection has no memory.
func (d *device) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.held)
	if d.restless && !d.durable {
		for _, r := range d.seen { // what it missed it never gets; order holds anew
			if r.fault == "" {
				r.newest = -1
			}
			clear(r.count)
		}
	}
}

// read takes up to most packets. It reports whether the test is over.
func (d *device) read(most int) (over bool) {
	for range most {
		p, err := d.next()
		if err != nil {
			select {
			case <-d.s.quit:
				return true
			default:
			}
			if !d.restless {
				d.s.t.Errorf("%s: %v", d.id, err)
				return true
			}
			return false
		}
		d.answer(p)
	}
	return false
}

// traveler has a session that outlives its connection, and ends it, again and
// again: whether the core is asked for a topic changes each time.
func (d *device) traveler() {
	for {
		select {
		case <-d.s.quit:
			return
		default:
		}
		d.connect(false)
		d.subscribe(fmt.Sprint("t/", d.rng.IntN(stressTopics)), byte(d.rng.IntN(3)))
		for range d.rng.IntN(40) {
			if p, err := d.next(); err == nil {
				d.answer(p)
			}
		}
		_ = d.conn.Close()
		d.connect(true)
		_ = d.conn.Close()
		clear(d.held)
	}
}
