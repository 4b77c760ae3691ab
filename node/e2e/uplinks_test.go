//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/sim/emulator"
)

// uplinks is a ship with two links to the shore.
type uplinks struct {
	t           *testing.T
	shore, ship *daemon
	lte, sat    *emulator.Link
	sub         *listener
	sent        []string
	talks       int
}

// newUplinks links the nodes; both files say the same of the two links.
func newUplinks(t *testing.T, lte, sat config.Uplink, over emulator.Profile) *uplinks {
	t.Helper()
	u := &uplinks{t: t, shore: newDaemon(t, "shore"), ship: newDaemon(t, "ship")}
	u.shore.init("coast")
	u.shore.edit(func(c *config.Config) {
		for _, l := range []config.Uplink{lte, sat} {
			c.Links = append(c.Links, config.Link{Node: addr.MustNode("ship"), Uplink: l})
		}
	})
	u.shore.run()
	u.lte, u.sat = wire(t, u.shore, 1, over), wire(t, u.shore, 2, over)
	u.ship.join(u.shore.invite("sea", u.lte.Addr().String()))
	u.ship.edit(func(c *config.Config) {
		c.Peers = nil
		for _, l := range []struct {
			config.Uplink
			at *emulator.Link
		}{{lte, u.lte}, {sat, u.sat}} {
			c.Peers = append(c.Peers, config.Peer{Address: config.HostPort(l.at.Addr().String()), Node: addr.MustNode("shore"), Uplink: l.Uplink})
		}
		for _, class := range []config.ClassName{"alarm", "bulk"} {
			c.Routes = append(c.Routes, config.Route{Name: string(class), Match: config.Match{Topic: string(class) + "/#"}, Class: class})
		}
	})
	u.ship.run()
	u.up(2)
	u.sub = listen(u.shore, "office", "#", 1)
	u.ship.knows(u.shore, "#")
	return u
}

// up waits until so many links carry, at both ends.
func (u *uplinks) up(n int) {
	u.t.Helper()
	for _, d := range []*daemon{u.ship, u.shore} {
		d.wait(fmt.Sprintf("%d links that are up", n), func(s admin.Status) bool {
			up := 0
			for _, p := range s.Peers {
				if p.Link != "" && p.State == admin.PeerUp {
					up++
				}
			}
			return up == n
		})
	}
}

// uses returns the classes that go by a link of the ship.
func (u *uplinks) uses(link string) []string {
	u.t.Helper()
	for _, p := range u.ship.status().Peers {
		if p.Link == link {
			return p.Classes
		}
	}
	u.t.Fatalf("the ship has no link %s", link)
	return nil
}

// carries waits until just these classes go by a link of the ship: a session
// stands a moment before anything is given to it.
func (u *uplinks) carries(link string, classes ...string) {
	u.t.Helper()
	u.ship.wait(fmt.Sprintf("%s to carry %q alone", link, classes), func(s admin.Status) bool {
		return slices.ContainsFunc(s.Peers, func(p admin.Peer) bool { return p.Link == link && slices.Equal(p.Classes, classes) })
	})
}

// publish sends messages to a topic, waits until they came, and returns how many
// bytes went by each link meanwhile.
func (u *uplinks) publish(topic string, n int) (lte, sat uint64) {
	u.t.Helper()
	wasLTE, wasSat := u.lte.Stats().Up.OfferedBytes, u.sat.Stats().Up.OfferedBytes
	u.talks++
	k := talk(u.ship, fmt.Sprintf("bridge-%d", u.talks), topic, 1, time.Millisecond, numbered(fmt.Sprintf("%s-%d", topic, u.talks), n)...)
	k.done()
	u.sent = append(u.sent, k.said()...)
	u.sub.receive(u.sent)
	return u.lte.Stats().Up.OfferedBytes - wasLTE, u.sat.Stats().Up.OfferedBytes - wasSat
}

// once checks that all came, and each once.
func (u *uplinks) once() {
	u.t.Helper()
	u.ship.empty()
	u.shore.empty()
	if r := compare(u.sent, u.sub.lines()); len(r.missing) > 0 || r.repeats > 0 || len(r.foreign) > 0 {
		u.t.Errorf("of %d messages: %s; want each once", len(u.sent), r)
	}
}

// TestUplinksByClass: alarms go by the link that names them, and by the other
// while that one is cut.
func TestUplinksByClass(t *testing.T) {
	u := newUplinks(t, config.Uplink{Name: "lte"}, config.Uplink{Name: "sat", Cost: 10, Classes: []config.ClassName{"alarm"}}, far)
	u.carries("sat", "alarm")
	if lte, sat := u.publish("alarm/fire", 300); lte > sat/2 {
		t.Errorf("300 alarms: %d bytes by lte, %d by sat", lte, sat)
	}
	if lte, sat := u.publish("bulk/log", 300); sat > lte/2 {
		t.Errorf("300 lines of a log: %d bytes by lte, %d by sat", lte, sat)
	}
	u.sat.Cut(true)
	u.publish("alarm/flood", 300)
	u.sat.Cut(false)
	u.up(2)
	u.carries("sat", "alarm")
	u.once()
}

// TestUplinksByCost: all goes by the cheaper link, by the other one while the
// first is cut, and by the first again.
func TestUplinksByCost(t *testing.T) {
	u := newUplinks(t, config.Uplink{Name: "lte", Cost: 1}, config.Uplink{Name: "sat", Cost: 10}, far)
	for round := range 2 {
		if lte, sat := u.publish("bulk/log", 300); sat > lte/2 {
			t.Errorf("round %d: %d bytes by lte, %d by sat", round, lte, sat)
		}
		u.lte.Cut(true)
		if _, sat := u.publish("bulk/log", 300); sat == 0 {
			t.Errorf("round %d: nothing went by sat", round)
		}
		u.lte.Cut(false)
		u.up(2)
		u.ship.wait("lte to carry again", func(admin.Status) bool { return len(u.uses("lte")) > 0 })
	}
	u.once()
}

// TestUplinksInParallel: links of one cost share what there is, each as much as
// it takes.
func TestUplinksInParallel(t *testing.T) {
	full(t)
	u := newUplinks(t, config.Uplink{Name: "lte"}, config.Uplink{Name: "sat"}, emulator.Profile{Delay: 20 * time.Millisecond, Rate: 1_000_000})
	lte, sat := u.publish("bulk/log", 3000)
	if lte < sat/3 || sat < lte/3 {
		t.Errorf("%d bytes by lte, %d by sat: that is not both", lte, sat)
	}
	t.Logf("%d bytes by lte, %d by sat", lte, sat)
	u.once()
}

// TestUplinksDetour: while the link is cut that carries all, what the other one
// does not carry goes by a third node, and alarms do not.
func TestUplinksDetour(t *testing.T) {
	u := newUplinks(t, config.Uplink{Name: "lte"}, config.Uplink{Name: "sat", Cost: 10, Classes: []config.ClassName{"alarm"}}, far)
	port, slow := newDaemon(t, "port"), wire(t, u.ship, 3, emulator.Profile{Delay: 200 * time.Millisecond})
	port.join(u.shore.invite("harbor", u.shore.mesh))
	port.edit(func(c *config.Config) {
		c.Peers = append(c.Peers, config.Peer{Address: config.HostPort(slow.Addr().String()), Node: addr.MustNode("ship")})
	})
	port.run()
	port.linked(true, u.shore)
	port.linked(true, u.ship)
	u.publish("bulk/log", 300)
	u.lte.Cut(true)
	u.publish("alarm/flood", 300)
	before := port.status().Counters.Relayed
	u.publish("bulk/log", 300)
	if n := port.status().Counters.Relayed - before; n == 0 {
		t.Error("the log did not go by the port")
	}
	if out := u.ship.do("nodes", "--json"); !strings.Contains(out, `"class": "bulk"`) {
		t.Errorf("nodes --json does not say that bulk goes another way: %s", out)
	}
	before = port.status().Counters.Relayed
	if _, sat := u.publish("alarm/flood", 300); sat == 0 {
		t.Error("no alarm went by sat")
	}
	// The news that the bridge's client came and went is no alarm.
	if n := port.status().Counters.Relayed - before; n > 10 {
		t.Errorf("%d bundles went by the port, which are alarms", n)
	}
	u.lte.Cut(false)
	u.up(2)
	u.ship.wait("lte to carry again", func(admin.Status) bool { return slices.Contains(u.uses("lte"), "bulk") })
	u.once()
	port.empty()
}
