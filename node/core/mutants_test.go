package core_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
)

// These tests exist because a bug that was planted on purpose went unnoticed
// (make mutants).

// A bundle's life is what its publisher gave it, less what it has spent: where
// it was stored, and at every hop again.
func TestLifeIsSpentAtEveryHop(t *testing.T) {
	e := newEnv()
	e.script(`
		node a
		node r
		node b
		link a r delay=10ms
		link r b delay=10ms
		subscribe b ops plant/#
		stabilize
		down a r
		publish a plant/1 m ttl=100s
		sync a
		tick 30s
		up a r
		down r b
		tick 20s
		up r b
		stabilize`)
	out := e.do("why b m")
	_, left, _ := strings.Cut(out, "expires in ")
	d, err := time.ParseDuration(strings.TrimSpace(left))
	if err != nil {
		t.Fatalf("m is not at b: %q, %v", out, err)
	}
	if d > 50*time.Second || d < 45*time.Second {
		t.Errorf("m has %s left at b, of 100 s less 50 s that have passed\n%s", d, out)
	}
}

// What expired between two ticks is found when it is about to leave.
func TestExpiredIsNotSent(t *testing.T) {
	e := newEnv()
	e.script(pair + "\n down a b\n publish a plant/1 m ttl=1s\n sync a")
	e.now = e.now.Add(2 * time.Second)
	if out := e.do("up a b"); strings.Contains(out, "transfer") {
		t.Errorf("it expired a second ago:\n%s", out)
	}
	if out := e.do("stabilize"); !strings.Contains(out, "obituary") || strings.Contains(out, "transfer") {
		t.Errorf("want its obituary alone:\n%s", out)
	}
}

// Packet ids come around after 65,535 deliveries (MQTT 5, 2.2.1). One that an
// unanswered delivery still has is not given to another.
func TestPacketIDInUse(t *testing.T) {
	e := newEnv()
	e.script("node a\n connect a ops receive=20\n subscribe a ops plant/#\n stabilize")
	var all []core.Delivery
	used := map[uint16]bool{}
	e.onDeliver = func(_, label string, d core.Delivery) {
		if used[d.PacketID] {
			t.Errorf("%s has the packet id %d of a delivery that is unanswered", label, d.PacketID)
		}
		used[d.PacketID] = true
		all = append(all, d)
	}
	answer := func(keep int) {
		n, device := e.node("a"), e.node("a").device("ops")
		now := all[keep:]
		for all = all[:keep:keep]; len(now) > 0; now = now[1:] {
			d := now[0]
			delete(used, d.PacketID)
			n.core.Settle(e.now, []core.Settlement{{Session: "ops", Conn: device.conn, Seq: d.Header.Seq}})
			n.pump()
			n.sync()
		}
		device.todo = nil
	}
	e.script("publish a plant/1 first quiet\n sync a")
	for range 65535 / 15 {
		e.script("publish a plant/1 m n=15 quiet\n sync a")
		answer(1)
	}
	if len(all) != 1 {
		t.Fatalf("%d deliveries are unanswered, want the first alone: the last waits for its packet id", len(all))
	}
	answer(0)
	if e.do("stabilize"); len(all) != 1 || all[0].PacketID != 1 {
		t.Errorf("the last did not come with packet id 1 once that was free: %d unanswered", len(all))
	}
}

// Each class leaves room to those above it: when the store fills up, bulk is
// refused first and control last.
func TestRoomForTheClassesAbove(t *testing.T) {
	e := newEnv()
	e.script(strings.Replace(pair, "node a", "node a count=1000", 1))
	e.script("down a b")
	last := ""
	for _, class := range []string{"bulk", "telemetry", "interactive", "alarm", "control"} {
		out := e.do("publish a plant/1 %s-first class=%s", class, class) + e.do("sync a")
		if !strings.Contains(out, class+"-first: ok") {
			t.Errorf("%s finds no room after %s: %s", class, last, out)
		}
		out = e.do("publish a plant/1 %s n=1000 class=%s", class, class) + e.do("sync a")
		if !strings.Contains(out, "store-full") {
			t.Errorf("%s was never refused", class)
		}
		last = class
	}
}

// The laws hold when nodes lose their power as soon as something reached them.
func TestLawsHoldInPowerCuts(t *testing.T) {
	for seed := range uint64(10) {
		l := newLaws(t, seed, 64, 1000)
		rng := rand.New(rand.NewPCG(seed, 6))
		for range 40 {
			l.next++
			l.e.do("publish a plant/1 m%d qos=%d", l.next, 1+l.next%2)
			l.e.do("sync a")
			for range 1 + rng.IntN(6) { // hops, with or without a write between
				l.e.do("deliver")
				if rng.IntN(2) == 0 {
					l.e.do("sync %s", []string{"a", "r", "b", "d"}[rng.IntN(4)])
				}
			}
			l.e.do("crash %s", []string{"a", "r", "b", "d"}[rng.IntN(4)])
			for _, link := range lawLinks {
				l.e.do("up %s", link)
			}
			for c, n := range lawClients {
				l.e.do("connect %s %s auto receive=3", n, c)
			}
		}
		l.calm()
		l.judge()
		if t.Failed() {
			return
		}
	}
}
