package main

import (
	"io"
	"sync/atomic"

	"github.com/eclipse/paho.golang/packets"
)

// subscriber reads with QoS 2. It remembers, over its connections, the packet
// ids of messages it has and that are not released yet: a repeat of one of
// these is no new message (MQTT 5, 4.3.3).
type subscriber struct {
	session
	filter string
	ready  atomic.Bool // subscribed

	half map[uint16]bool // of the goroutine of run alone
}

func (s *subscriber) connected(w io.Writer, fresh bool) error {
	if !fresh && s.ready.Load() {
		return nil
	}
	clear(s.half)
	p := packets.NewControlPacket(packets.SUBSCRIBE)
	c := p.Content.(*packets.Subscribe)
	c.PacketID, c.Subscriptions = 1, []packets.SubOptions{{Topic: s.filter, QoS: 2}}
	_, err := p.WriteTo(w)
	return err
}

func (s *subscriber) handle(w io.Writer, p *packets.ControlPacket) error {
	switch m := p.Content.(type) {
	case *packets.Suback:
		s.ready.Store(true)
	case *packets.Publish:
		if m.QoS != 2 {
			s.ledger.fault("%s was sent a message with QoS %d", s.id, m.QoS)
			return nil
		}
		if !s.half[m.PacketID] {
			s.half[m.PacketID] = true
			s.ledger.delivered(s.id, m.Payload)
		}
		c := packets.NewControlPacket(packets.PUBREC)
		c.Content.(*packets.Pubrec).PacketID = m.PacketID
		_, err := c.WriteTo(w)
		return err
	case *packets.Pubrel:
		delete(s.half, m.PacketID)
		c := packets.NewControlPacket(packets.PUBCOMP)
		c.Content.(*packets.Pubcomp).PacketID = m.PacketID
		_, err := c.WriteTo(w)
		return err
	}
	return nil
}
