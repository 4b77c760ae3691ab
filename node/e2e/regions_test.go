//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

// TestFiveRegions: five nodes of five regions, each linked to each, and two
// brokers of another make, bridged with everything both ways, by one node each
// or by two that are a group. Whoever says something anywhere, each who
// subscribed to everything gets exactly one copy; so it stays when a node that
// carries for a broker is killed meanwhile.
func TestFiveRegions(t *testing.T) {
	full(t)
	for _, c := range []struct {
		name  string
		doors [2][]int // of each broker, the nodes bridged to it
	}{
		{"one node each", [2][]int{{0}, {1}}},
		{"two nodes each", [2][]int{{0, 1}, {1, 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			brokers := []*daemon{runMosquitto(t), runMosquitto(t)}
			nodes := newRegions(t, 5, func(i int, conf *config.Config) {
				for b, m := range brokers {
					if !slices.Contains(c.doors[b], i) {
						continue
					}
					door := config.Bridge{
						Name: fmt.Sprint("plant", b), Remote: config.BridgeRemote{URL: "mqtt://" + m.mqtt},
						Rules: []config.BridgeRule{{Direction: "both", Filter: "#"}},
					}
					if len(c.doors[b]) > 1 {
						door.Share = door.Name
					}
					conf.MQTT.Bridges = append(conf.MQTT.Bridges, door)
				}
			})
			oneCopyEach(t, nodes, brokers)
		})
	}
}

func oneCopyEach(t *testing.T, nodes, brokers []*daemon) {
	t.Helper()
	bridged(nodes)
	ears := make(map[*daemon]*client)
	for i, d := range slices.Concat(nodes, brokers) {
		ears[d] = hear(d, fmt.Sprint("ear", i), i >= len(nodes))
	}
	for _, d := range nodes {
		for _, p := range nodes {
			d.knows(p, "#")
		}
	}
	sent := make(map[*daemon][]string)
	speak := func(prefix string, from ...*daemon) {
		var said []*client
		for _, d := range from {
			messages := numbered(prefix+" "+d.name+d.mqtt, 50)
			sent[d] = append(sent[d], messages...)
			said = append(said, stream(d, "", "say/"+prefix, 2, 0, messages...))
		}
		for _, c := range said {
			c.done()
		}
	}
	hear := func() {
		t.Helper()
		for at, c := range ears {
			for from, messages := range sent {
				// A group keeps no order between its bridges.
				c.gathers(messages, slices.Contains(nodes, at) && slices.Contains(nodes, from))
			}
		}
		all := 0
		for _, messages := range sent {
			all += len(messages)
		}
		for _, c := range ears {
			if n := len(c.said()); n != all {
				t.Errorf("%s: %d messages, want %d", c.what, n, all)
			}
		}
	}
	speak("all", slices.Concat(nodes, brokers)...)
	hear()

	const killed = 1
	nodes[killed].kill()
	speak("without", slices.Concat(nodes[:killed], nodes[killed+1:], brokers)...)
	nodes[killed].run()
	bridged(nodes)
	hear()
}

// bridged waits until all bridges are connected.
func bridged(nodes []*daemon) {
	for _, d := range nodes {
		d.t.Helper()
		d.wait("its bridges", func(s admin.Status) bool {
			return !slices.ContainsFunc(s.MQTT.Bridges, func(b admin.Bridge) bool { return b.State != "connected" })
		})
	}
}

// versionOf is what a foreign broker sends each new subscriber of its version.
const versionOf = "mosquitto version"

// hear subscribes to everything. Where no status tells of the subscription,
// the retained version of a foreign broker does.
func hear(d *daemon, id string, foreign bool) *client {
	d.t.Helper()
	args := []string{"-c", "-i", id, "-q", "2", "-t", "#"}
	if !foreign {
		return mosquitto(d.t, "mosquitto_sub", d, nil, args...)
	}
	c := mosquitto(d.t, "mosquitto_sub", d, nil, append(args, "-t", "$SYS/broker/version")...)
	until(d.t, text(id+" to be subscribed"), func() bool { return len(c.lines()) > 0 })
	return c
}

// said are the lines without the versionOf.
func (c *client) said() []string {
	return slices.DeleteFunc(c.lines(), func(l string) bool { return strings.HasPrefix(l, versionOf) })
}

// gathers waits until all that was sent has come, and checks that it came once,
// and in order where there is one.
func (c *client) gathers(sent []string, ordered bool) {
	c.t.Helper()
	var r tally
	until(c.t, func() string { return fmt.Sprintf("%d messages at %s: %s", len(sent), c.what, r) }, func() bool {
		r = compare(sent, c.lines())
		return len(r.missing) == 0
	})
	if r.repeats > 0 || ordered && !r.ordered {
		c.t.Errorf("%s: %d repeats %s, in order: %t", c.what, r.repeats, some(r.repeated), r.ordered)
	}
}

// newRegions starts n nodes, each of a region of its own and linked to all
// others. change is made to the configuration of each.
func newRegions(t *testing.T, n int, change func(i int, c *config.Config)) []*daemon {
	t.Helper()
	var nodes []*daemon
	for i := range n {
		d := newDaemon(t, fmt.Sprint("node-", i))
		if i == 0 {
			d.init("region-0")
		} else {
			d.join(nodes[0].invite(fmt.Sprint("region-", i), nodes[0].mesh))
		}
		d.edit(func(c *config.Config) {
			for _, p := range nodes[min(i, 1):] {
				c.Peers = append(c.Peers, config.Peer{Address: config.HostPort(p.mesh)})
			}
			change(i, c)
		})
		d.run()
		nodes = append(nodes, d)
	}
	for i, d := range nodes {
		d.linked(true, slices.Concat(nodes[:i], nodes[i+1:])...)
	}
	return nodes
}
