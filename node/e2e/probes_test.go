//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestProbes asks a node for what other brokers were found to get wrong: each
// probe is named after the defect. docs/mqtt.md lists them, and the
// tests of those that need another clock or another process.
func TestProbes(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	for _, c := range []struct {
		name  string
		probe func(*testing.T, *daemon)
	}{
		{"recvmax-deadlock", probeDeadlock},
		{"receive-max-stall", probeStall},
		{"packetid-collision-q1", func(t *testing.T, d *daemon) { probeCollision(t, d, 1) }},
		{"packetid-collision-q2", func(t *testing.T, d *daemon) { probeCollision(t, d, 2) }},
		{"offline-depth", func(t *testing.T, d *daemon) { probeOffline(t, d, "depth", 20_000) }},
		{"offline-order", func(t *testing.T, d *daemon) { probeOffline(t, d, "order", 500) }},
		{"slow-sub-hol", probeSlowSubscriber},
		{"retained-burst", probeRetainedBurst},
		{"alias-offline", probeAlias},
		{"alias-advertised", probeAliasAdvertised},
		{"expired-session-subs", probeExpiredSession},
		{"retained-parent", probeRetainedParent},
		{"live-parent", probeLiveParent},
		{"will-props", func(t *testing.T, d *daemon) { probeWill(t, d, "props", 0) }},
		{"will-delay", func(t *testing.T, d *daemon) { probeWill(t, d, "delay", 1) }},
		{"expiry-injected", probeExpiryInjected},
		{"qos2-dup-reconnect", probeQoS2Dup},
		{"shared-offline-member", probeSharedOffline},
		{"shared-unacked-redispatch", probeSharedRedispatch},
	} {
		t.Run(c.name, func(t *testing.T) { c.probe(t, d) })
	}
	if d.logged("panic") {
		t.Errorf("a panic:\n%s", tail(d.logs, 40))
	}
}

// TestProbesRestart: what an offline session waits for is there after a kill,
// and its age has not begun anew.
func TestProbesRestart(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	s := probeAt(t, d, "s", lasting)
	s.subscribe(1, "kept", "aging")
	s.leave()
	p := probeAt(t, d, "p")
	p.publish("kept", 20)
	old := message("aging", "x", 1, 1)
	old.Properties.MessageExpiryInterval = 3000
	p.send(old)
	p.next(packets.Puback)
	time.Sleep(1100 * time.Millisecond) // a second has to be spent
	d.kill()
	d.run()
	s = probeAt(t, d, "s", lasting)
	if !s.connack.SessionPresent {
		t.Fatal("the session is gone")
	}
	for i := range 20 {
		pk := s.next(packets.Publish)
		if string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d: %s", i, pk.Payload)
		}
		s.send(answer(packets.Puback, pk.PacketID))
	}
	pk := s.next(packets.Publish)
	if left := pk.Properties.MessageExpiryInterval; pk.TopicName != "aging" || left == 0 || left >= 3000 {
		t.Errorf("%s with %d s left, want less than 3000", pk.TopicName, left)
	}
}

// TestProbesStop: a node with very many clients ends when it is told to.
func TestProbesStop(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	for i := range 2000 {
		probeAt(t, d, fmt.Sprint("c", i))
	}
	d.stop()
}

// probeDeadlock: several publishers, and a subscriber with a small window.
func probeDeadlock(t *testing.T, d *daemon) {
	s := probeAt(t, d, "dl-s", receiving(5))
	s.subscribe(1, "dl/+")
	const each = 500
	var publishers []*probe
	for i := range 4 {
		p := probeAt(t, d, fmt.Sprint("dl-p", i))
		var all []packets.Packet
		for n := range each {
			all = append(all, message(fmt.Sprint("dl/", i), fmt.Sprint(n), 1, uint16(1+n)))
		}
		p.send(all...)
		publishers = append(publishers, p)
	}
	for range len(publishers) * each {
		s.send(answer(packets.Puback, s.next(packets.Publish).PacketID))
	}
	for _, p := range publishers {
		for range each {
			p.next(packets.Puback)
		}
	}
	s.leave()
	probeAt(t, d, "dl-s").quiet()
}

func probeStall(t *testing.T, d *daemon) {
	s := probeAt(t, d, "st-s", lasting, receiving(5))
	s.subscribe(1, "st")
	probeAt(t, d, "st-p").publish("st", 300)
	s.receive(300)
}

// probeCollision: an id that a client uses for its own publish is another one
// than that of a delivery to it.
func probeCollision(t *testing.T, d *daemon, qos byte) {
	name := fmt.Sprint("id", qos)
	s := probeAt(t, d, name, lasting)
	s.subscribe(1, name)
	p := probeAt(t, d, name+"-p")
	p.publish(name, 1)
	id := s.next(packets.Publish).PacketID // and does not acknowledge it
	s.send(message("elsewhere", "x", qos, id))
	if qos == 1 {
		s.next(packets.Puback)
	} else {
		s.next(packets.Pubrec)
		s.send(answer(packets.Pubrel, id))
		s.next(packets.Pubcomp)
	}
	s.quiet()
	_ = s.conn.Close()
	s = probeAt(t, d, name, lasting)
	if pk := s.next(packets.Publish); pk.PacketID != id || !pk.FixedHeader.Dup || string(pk.Payload) != "0" {
		t.Errorf("again: %+v, want %d", pk, id)
	}
	s.send(answer(packets.Puback, id))
	s.quiet()
}

func probeOffline(t *testing.T, d *daemon, name string, n int) {
	s := probeAt(t, d, name, lasting)
	s.subscribe(1, name)
	s.leave()
	probeAt(t, d, name+"-p").publish(name, n)
	probeAt(t, d, name, lasting).receive(n)
}

// probeSlowSubscriber: one that does not read keeps nothing from others.
func probeSlowSubscriber(t *testing.T, d *daemon) {
	slow := probeAt(t, d, "hol-slow")
	slow.subscribe(1, "hol/#")
	s := probeAt(t, d, "hol-s")
	s.subscribe(1, "hol/#")
	p := probeAt(t, d, "hol-p")
	body := strings.Repeat("x", 20_000)
	for i := range 600 {
		p.send(message("hol/a", body, 1, uint16(1+i)))
		p.next(packets.Puback)
		s.send(answer(packets.Puback, s.next(packets.Publish).PacketID))
	}
	s.quiet()
}

func probeRetainedBurst(t *testing.T, d *daemon) {
	const n = 20_000
	p := probeAt(t, d, "rb-p")
	for at := 0; at < n; at += 500 {
		var some []packets.Packet
		for i := range 500 {
			pk := message(fmt.Sprint("rb/", at+i), "x", 1, uint16(i+1))
			pk.FixedHeader.Retain = true
			some = append(some, pk)
		}
		p.send(some...)
		for range some {
			p.next(packets.Puback)
		}
	}
	s := probeAt(t, d, "rb-s")
	s.subscribe(0, "rb/#")
	time.Sleep(300 * time.Millisecond) // it is busy
	seen := map[string]bool{}
	for range n {
		seen[s.next(packets.Publish).TopicName] = true
	}
	if s.quiet(); len(seen) != n {
		t.Errorf("%d topics, want %d", len(seen), n)
	}
}

// probeAlias: what waited for a client is not said by an alias of an earlier
// connection.
func probeAlias(t *testing.T, d *daemon) {
	aliases := func(p *packets.Packet) { p.Properties.TopicAliasMaximum = 10 }
	s := probeAt(t, d, "al", lasting, aliases)
	s.subscribe(1, "alias/x")
	p := probeAt(t, d, "al-p")
	p.publish("alias/x", 1)
	s.send(answer(packets.Puback, s.next(packets.Publish).PacketID))
	s.leave()
	p.publish("alias/x", 2)
	s = probeAt(t, d, "al", lasting, aliases)
	for i := range 2 {
		pk := s.next(packets.Publish)
		if i == 0 && pk.TopicName != "alias/x" || pk.TopicName == "" && pk.Properties.TopicAlias == 0 {
			t.Errorf("message %d: topic %q, alias %d", i, pk.TopicName, pk.Properties.TopicAlias)
		}
	}
}

func probeAliasAdvertised(t *testing.T, d *daemon) {
	if n := probeAt(t, d, "aa").connack.Properties.TopicAliasMaximum; n == 0 {
		t.Error("clients may not use topic aliases")
	}
}

// probeExpiredSession: the filters of a session that expired are forgotten.
func probeExpiredSession(t *testing.T, d *daemon) {
	brief := func(p *packets.Packet) {
		lasting(p)
		p.Properties.SessionExpiryInterval = 1
	}
	s := probeAt(t, d, "brief", brief)
	s.subscribe(1, "brief/#")
	s.leave()
	p := probeAt(t, d, "brief-p")
	until(t, text("the session to expire"), func() bool {
		pk := message("brief/x", "x", 1, 1)
		p.send(pk)
		return p.next(packets.Puback).ReasonCode == 0x10 // nobody subscribes
	})
	s = probeAt(t, d, "brief", brief)
	if s.connack.SessionPresent {
		t.Error("the session is present")
	}
	p.send(message("brief/x", "x", 1, 1))
	p.next(packets.Puback)
	s.quiet()
}

// probeRetainedParent: "a/#" and "+/#" match "a" itself.
func probeRetainedParent(t *testing.T, d *daemon) {
	p := probeAt(t, d, "rp-p")
	for i, topic := range []string{"rp", "rp/x"} {
		pk := message(topic, "x", 1, uint16(i+1))
		pk.FixedHeader.Retain = true
		p.send(pk)
		p.next(packets.Puback)
	}
	for i, filter := range []string{"rp/#", "+/#"} {
		s := probeAt(t, d, fmt.Sprint("rp-s", i))
		s.subscribe(0, filter)
		for found := map[string]bool{}; len(found) < 2; {
			if topic := s.next(packets.Publish).TopicName; strings.HasPrefix(topic, "rp") {
				found[topic] = true
			}
		}
	}
}

func probeLiveParent(t *testing.T, d *daemon) {
	p := probeAt(t, d, "lp-p")
	for i, filter := range []string{"lp-one/#", "+/#"} {
		s := probeAt(t, d, fmt.Sprint("lp-s", i))
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1}
		pk.Filters = packets.Subscriptions{{Filter: filter, RetainHandling: 2}}
		s.send(pk)
		s.next(packets.Suback)
		p.send(message("lp-one", "x", 1, 1))
		p.next(packets.Puback)
		if got := s.next(packets.Publish); got.TopicName != "lp-one" {
			t.Errorf("%s: got %s", filter, got.TopicName)
		}
		s.leave()
	}
}
