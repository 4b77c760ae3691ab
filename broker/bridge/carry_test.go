package bridge

import (
	"fmt"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

// TestCarry carries every QoS both ways under other topics, with all that
// belongs to a message, in both versions.
func TestCarry(t *testing.T) {
	here, there := newMosquitto(t), newMosquitto(t)
	for _, version := range []string{V5, V311} {
		t.Run(version, func(t *testing.T) {
			cfg, deps := quick(here.address(), there.address(),
				Rule{Direction: Out, Filter: "up/#", LocalPrefix: "l/", RemotePrefix: "site/7/"},
				Rule{Direction: In, Filter: "down/#", LocalPrefix: "l/", RemotePrefix: "site/7/"})
			cfg.Remote.Version = version
			cfg.Local.ClientID, cfg.Remote.ClientID = version, version
			b := run(t, cfg, deps)
			l := newDevice(t, here.address(), "l"+version, "l/down/#", false)
			r := newDevice(t, there.address(), "r"+version, "site/7/up/#", false)
			life := uint32(600)
			for qos := range byte(3) {
				props := func(answer string) *paho.PublishProperties {
					return &paho.PublishProperties{ContentType: "text/plain", ResponseTopic: answer, CorrelationData: []byte{1, 0, 2}, MessageExpiry: &life, User: paho.UserProperties{{Key: "k", Value: "v"}}}
				}
				l.publish(&paho.Publish{Topic: "l/up/a", QoS: qos, Payload: []byte("out"), Properties: props("l/down/answer")})
				r.publish(&paho.Publish{Topic: "site/7/down/b", QoS: qos, Payload: []byte("in"), Properties: props("site/7/up/answer")})
				l.waitFor(int(qos) + 1)
				r.waitFor(int(qos) + 1)
				for _, c := range []struct {
					d                      *device
					topic, payload, answer string
				}{
					{l, "l/down/b", "in", "l/up/answer"},
					{r, "site/7/up/a", "out", "site/7/down/answer"},
				} {
					p := c.d.received()[qos]
					if p.Topic != c.topic || string(p.Payload) != c.payload || p.QoS != qos {
						t.Errorf("QoS %d: got %s %q QoS %d, want %s %q", qos, p.Topic, p.Payload, p.QoS, c.topic, c.payload)
					}
					if version != V5 {
						continue // 3.1.1 has no properties
					}
					pp := p.Properties
					if pp.ContentType != "text/plain" || pp.ResponseTopic != c.answer || string(pp.CorrelationData) != "\x01\x00\x02" || pp.User.Get("k") != "v" || pp.MessageExpiry == nil || *pp.MessageExpiry > life {
						t.Errorf("QoS %d: properties %+v, want response topic %s", qos, pp, c.answer)
					}
				}
			}
			until(t, "all to be acknowledged", func() bool { s := b.Status(); return s.Out.UnderWay+s.In.UnderWay == 0 })
			s := b.Status()
			if s.Version != version || s.Out.Forwarded != [3]uint64{1, 1, 1} || s.In.Forwarded != [3]uint64{1, 1, 1} || s.Out.Bytes != 9 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestRetained keeps the flag, so that who subscribes later gets the message.
func TestRetained(t *testing.T) {
	here, there := newMosquitto(t), newMosquitto(t)
	cfg, deps := quick(here.address(), there.address(), Rule{Direction: Both, Filter: "#"})
	run(t, cfg, deps)
	l := newDevice(t, here.address(), "l", "", false)
	r := newDevice(t, there.address(), "r", "first/#", false)
	l.publish(&paho.Publish{Topic: "first/state", QoS: 1, Retain: true, Payload: []byte("on")})
	r.waitFor(1)
	late := newDevice(t, there.address(), "late", "first/#", false)
	late.waitFor(1)
	if p := late.received()[0]; !p.Retain || string(p.Payload) != "on" {
		t.Errorf("late subscriber got %+v", p)
	}
	l.publish(&paho.Publish{Topic: "first/state", QoS: 1, Retain: true})
	r.waitFor(2)
	if p := r.received()[1]; !p.Retain || len(p.Payload) != 0 {
		t.Errorf("the deletion arrived as %+v", p)
	}
}

// TestQoSLimit hands over with the QoS of rule and remote.
func TestQoSLimit(t *testing.T) {
	here, there := newMosquitto(t), newMosquitto(t)
	zero, one := 0, 1
	for i, c := range []struct {
		name   string
		remote *int
		rule   *int
		want   byte
	}{
		{"rule 1", nil, &one, 1},
		{"remote 1", &one, nil, 1},
		{"remote 0", &zero, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, deps := quick(here.address(), there.address(), Rule{Direction: Both, Filter: fmt.Sprintf("t%d/#", i), QoS: c.rule})
			cfg.Remote.MaxQoS = c.remote
			cfg.Local.ClientID, cfg.Remote.ClientID = c.name, c.name
			b := run(t, cfg, deps)
			l := newDevice(t, here.address(), "l"+c.name, "", false)
			r := newDevice(t, there.address(), "r"+c.name, fmt.Sprintf("t%d/#", i), false)
			for n := range 3 {
				l.publish(&paho.Publish{Topic: fmt.Sprintf("t%d/x", i), QoS: 2, Payload: fmt.Append(nil, n)})
			}
			r.waitFor(3)
			r.mustBe(sequence(3))
			if q := r.received()[0].QoS; q != c.want {
				t.Errorf("QoS %d, want %d", q, c.want)
			}
			until(t, "all to be acknowledged", func() bool { return b.Status().Out.UnderWay == 0 })
		})
	}
}
