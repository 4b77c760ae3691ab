//go:build linux

package e2e

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// probeWill: a will has what its client gave it, and nothing else; a delay is
// no expiry.
func probeWill(t *testing.T, d *daemon, name string, delay uint32) {
	s := probeAt(t, d, "will-"+name)
	s.subscribe(1, "will/"+name)
	c := probeAt(t, d, "dying-"+name, lasting, func(p *packets.Packet) {
		p.Connect.WillFlag, p.Connect.WillQos = true, 1
		p.Connect.WillTopic, p.Connect.WillPayload = "will/"+name, []byte("gone")
		w := &p.Connect.WillProperties
		w.ContentType, w.ResponseTopic, w.CorrelationData, w.WillDelayInterval = "text/plain", "re", []byte{7}, delay
		if delay == 0 {
			w.MessageExpiryInterval = 1000
		}
	})
	if delay == 0 { // with the session: at once
		p := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: 4}
		c.send(p)
	} else {
		_ = c.conn.Close()
	}
	got := s.next(packets.Publish)
	w := got.Properties
	if string(got.Payload) != "gone" || w.ContentType != "text/plain" || w.ResponseTopic != "re" || string(w.CorrelationData) != "\x07" {
		t.Errorf("got %q with %+v", got.Payload, w)
	}
	if (delay == 0) != (w.MessageExpiryInterval > 0) {
		t.Errorf("a will with %d s left, delay %d", w.MessageExpiryInterval, delay)
	}
}

// probeExpiryInjected: what its publisher lets live for ever is not given an
// end.
func probeExpiryInjected(t *testing.T, d *daemon) {
	s := probeAt(t, d, "ei-s", lasting)
	s.subscribe(1, "ei/#")
	p := probeAt(t, d, "ei-p")
	pk := message("ei/kept", "x", 1, 1)
	pk.FixedHeader.Retain = true
	p.send(pk, message("ei/live", "x", 1, 2))
	late := probeAt(t, d, "ei-late")
	for range 2 {
		p.next(packets.Puback)
		if got := s.next(packets.Publish); got.Properties.MessageExpiryInterval != 0 {
			t.Errorf("%s has %d s left", got.TopicName, got.Properties.MessageExpiryInterval)
		}
	}
	late.subscribe(1, "ei/kept")
	if got := late.next(packets.Publish); got.Properties.MessageExpiryInterval != 0 {
		t.Errorf("retained: %d s left", got.Properties.MessageExpiryInterval)
	}
}

// probeQoS2Dup: a publish that is repeated on the next connection is answered
// as the first one was, and delivered once.
func probeQoS2Dup(t *testing.T, d *daemon) {
	s := probeAt(t, d, "q2-s")
	s.subscribe(1, "q2")
	p := probeAt(t, d, "q2-p", lasting)
	p.send(message("q2", "x", 2, 7))
	p.next(packets.Pubrec)
	_ = p.conn.Close()
	p = probeAt(t, d, "q2-p", lasting)
	again := message("q2", "x", 2, 7)
	again.FixedHeader.Dup = true
	p.send(again)
	if rec := p.next(packets.Pubrec); rec.ReasonCode != 0 {
		t.Errorf("PUBREC %#x", rec.ReasonCode)
	}
	p.send(answer(packets.Pubrel, 7))
	p.next(packets.Pubcomp)
	s.send(answer(packets.Puback, s.next(packets.Publish).PacketID))
	s.quiet()
}

// probeSharedOffline: members that are there get what is for their group, not
// those away.
func probeSharedOffline(t *testing.T, d *daemon) {
	away := probeAt(t, d, "so-away", lasting)
	away.subscribe(1, "$share/so/so/#")
	away.leave()
	here := probeAt(t, d, "so-here", lasting)
	here.subscribe(1, "$share/so/so/#")
	probeAt(t, d, "so-p").publish("so/x", 200)
	here.receive(200)
}

// probeSharedRedispatch: what a member did not acknowledge goes to another one
// when it ends.
func probeSharedRedispatch(t *testing.T, d *daemon) {
	const n = 20 // fewer than a member takes at a time
	first := probeAt(t, d, "sr-1")
	first.subscribe(1, "$share/sr/sr/#")
	probeAt(t, d, "sr-p").publish("sr/x", n)
	for range n {
		first.next(packets.Publish)
	}
	second := probeAt(t, d, "sr-2")
	second.subscribe(1, "$share/sr/sr/#")
	_ = first.conn.Close()
	got := map[string]bool{}
	for range n {
		pk := second.next(packets.Publish)
		got[string(pk.Payload)] = true
		second.send(answer(packets.Puback, pk.PacketID))
	}
	if second.quiet(); len(got) != n {
		t.Errorf("%d messages, want %d: %s", len(got), n, fmt.Sprint(got))
	}
}
