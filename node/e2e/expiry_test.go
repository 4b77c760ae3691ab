//go:build linux

package e2e

import (
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// TestExpiryAcrossMesh: a message without an expiry arrives without one, live,
// queued, retained, over a partition and a restart; one with an expiry arrives
// with what is left of it, and not at all when nothing is.
func TestExpiryAcrossMesh(t *testing.T) {
	m := newMesh(t)
	ops := connect5(m.earth, "ops")
	ops.subscribe("plant/#")
	plc := connect5(m.luna, "plc")
	m.luna.knows(m.earth, "plant/#")
	hour := uint32(3600)
	expiring := &paho.PublishProperties{MessageExpiry: &hour}

	check := func(p *paho.Publish, limited bool) {
		t.Helper()
		switch left := p.Properties.MessageExpiry; {
		case limited && (left == nil || *left == 0 || *left > hour):
			t.Errorf("%s: published with an expiry of %d s, arrives with %v", p.Topic, hour, left)
		case !limited && left != nil:
			t.Errorf("%s: published without an expiry, arrives with %d s", p.Topic, *left)
		}
	}
	for qos := range byte(3) {
		topic := "plant/live" + string('0'+rune(qos))
		plc.publish(qos, topic, "m", nil)
		check(ops.one(topic), false)
	}
	plc.publish(1, "plant/limited", "m", expiring)
	check(ops.one("plant/limited"), true)

	m.toEarth.Cut(true)
	ops.leave()
	plc.publish(1, "plant/kept", "m", nil)
	plc.publish(1, "plant/aged", "m", expiring)
	short := uint32(1)
	plc.publish(1, "plant/short", "m", &paho.PublishProperties{MessageExpiry: &short})
	began := time.Now()
	m.relay.kill()
	m.relay.run()
	until(t, text("a second to pass"), func() bool { return time.Since(began) > 1500*time.Millisecond })
	m.earth.kill()
	m.toEarth.Cut(false)
	m.earth.run()
	ops = connect5(m.earth, "ops")
	check(ops.one("plant/kept"), false)
	aged := ops.one("plant/aged")
	if check(aged, true); aged.Properties.MessageExpiry != nil && *aged.Properties.MessageExpiry == hour {
		t.Errorf("plant/aged waited and still has %d s", hour)
	}
	plc.publish(1, "plant/last", "m", nil)
	ops.one("plant/last")
	if len(ops.arrived("plant/short")) > 0 {
		t.Error("plant/short arrived after its life")
	}

	// Retained messages, too, and those of a device that comes late.
	keep := func(topic string, p *paho.PublishProperties) {
		if _, err := plc.c.Publish(plc.ctx(), &paho.Publish{QoS: 1, Retain: true, Topic: topic, Payload: []byte("m"), Properties: p}); err != nil {
			t.Fatal(err)
		}
	}
	keep("state/plain", nil)
	keep("state/limited", expiring)
	late := connect5(m.earth, "late")
	late.subscribe("state/#")
	check(late.one("state/plain"), false)
	check(late.one("state/limited"), true)
}
