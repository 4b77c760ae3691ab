//go:build linux

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/emulator"
)

// moonLink has a round trip of 2.6 s. It loses nothing by itself: cuts do.
var moonLink = emulator.Profile{Delay: 1300 * time.Millisecond, Rate: 50_000_000}

// moonFlow is one publisher on the Moon and its subscriber on Earth.
type moonFlow struct {
	sub  *listener
	pub  *talker
	most int // repeats that are the clients' own
}

// TestMoon publishes 300 messages a second from the Moon, over a link with a
// round trip of 2.6 s, with QoS 1 and as many with QoS 2. The link is cut three
// times for 4 s; then each node is killed in turn. Nothing is lost or inverted;
// only QoS 1 clients next to a node that was killed may repeat, and what they
// repeat is what was in flight.
func TestMoon(t *testing.T) {
	full(t)
	m := newMesh(t)
	m.toTheMoon(t)
	flows := map[int]*moonFlow{1: {most: talkerWindow + brokerWindow}, 2: {}}
	for qos, f := range flows {
		topic := fmt.Sprintf("moon/%d", qos)
		f.sub = listen(m.earth, fmt.Sprintf("earth-%d", qos), topic, qos)
		m.luna.knows(m.earth, topic)
		f.pub = talk(m.luna, fmt.Sprintf("rover-%d", qos), topic, qos, time.Second/300, numbered(fmt.Sprintf("q%d", qos), 60_000)...)
	}
	m.flowing(t, flows)
	for range 3 {
		m.toLuna.Cut(true)
		time.Sleep(4 * time.Second)
		m.toLuna.Cut(false)
		m.flowing(t, flows)
	}
	for _, d := range []*daemon{m.relay, m.earth, m.luna} {
		d.kill()
		d.run()
		m.flowing(t, flows)
	}
	for qos, f := range flows {
		sent := f.pub.enough()
		f.sub.receive(sent)
		t.Logf("QoS %d: %d sent", qos, len(sent))
	}
	for _, d := range []*daemon{m.luna, m.relay, m.earth} {
		d.empty()
		if c := d.status().Counters; c.GapsGivenUp > 0 || c.OutOfOrder > 0 {
			t.Errorf("%s: %+v", d.name, c)
		}
	}
	for qos, f := range flows {
		r := compare(f.pub.said(), f.sub.lines()) // copies that came late, too
		if r.repeats > f.most || len(r.foreign) > 0 || !r.ordered {
			t.Errorf("QoS %d: %s; at most %d repeats are MQTT's", qos, r, f.most)
		}
	}
}

// toTheMoon moves the node luna to where its region is.
func (m *mesh) toTheMoon(t *testing.T) {
	t.Helper()
	props := config.LinkProps{OWLT: config.Duration(moonLink.Delay), Rate: config.Rate(moonLink.Rate)}
	m.relay.stop()
	m.luna.stop()
	m.relay.edit(func(c *config.Config) {
		c.Links = append(c.Links, config.Link{Node: addr.MustNode(m.luna.name), LinkProps: props})
	})
	m.luna.edit(func(c *config.Config) { c.Peers[0].LinkProps = props })
	if err := m.toLuna.SetProfile(moonLink, moonLink); err != nil {
		t.Fatal(err)
	}
	m.relay.run()
	m.luna.run()
	m.earth.linked(true, m.relay)
	m.luna.linked(true, m.relay)
}

// flowing waits until something new comes of each flow, and more than what was
// already there.
func (m *mesh) flowing(t *testing.T, flows map[int]*moonFlow) {
	t.Helper()
	for qos, f := range flows {
		had := len(f.sub.lines())
		until(t, func() string {
			return fmt.Sprintf("QoS %d to flow: %d came, %d before", qos, len(f.sub.lines()), had)
		}, func() bool { return len(f.sub.lines()) > had+50 })
	}
}
