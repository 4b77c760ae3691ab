package bridge

import (
	"fmt"
	"slices"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

// TestNoLoop has one bridge carry everything both ways, by each means there is
// against echoes. Every subscriber gets every message once, equal ones too.
func TestNoLoop(t *testing.T) {
	for _, c := range []struct {
		name, version string
		mark          bool
	}{
		{"MQTT 5", V5, false},
		{"3.1.1 by digests", V311, false},
		{"3.1.1 with mosquitto's mark", V311, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := newMosquitto(t), newMosquitto(t)
			cfg, deps := quick(here.address(), there.address(), Rule{Direction: Both, Filter: "#"})
			cfg.Remote.Version, cfg.Remote.Mosquitto = c.version, c.mark
			b := run(t, cfg, deps)
			l := newDevice(t, here.address(), "l", "#", false)
			r := newDevice(t, there.address(), "r", "#", false)
			var want []string
			for i := range 100 {
				qos := byte(i % 3)
				for _, d := range []*device{l, r} {
					for _, payload := range []string{fmt.Sprint(d.id, i), "same"} {
						d.publish(&paho.Publish{Topic: "t/x", QoS: qos, Payload: []byte(payload)})
						want = append(want, payload)
					}
				}
			}
			settle(t, len(want), l, r)
			slices.Sort(want)
			for _, d := range []*device{l, r} {
				got := d.payloads()
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%s: %d messages, want %d", d.id, len(got), len(want))
				}
			}
			s := b.Status()
			if total := sum(s.Out.Forwarded) + sum(s.In.Forwarded); total != 402 {
				t.Errorf("%d messages went over, want 400 and the last two: %+v", total, s)
			}
		})
	}
}

func sum(n [3]uint64) uint64 { return n[0] + n[1] + n[2] }

// settle waits for n messages at each device, then sends a last one each way
// and waits for it: what would come twice has come by then.
func settle(t *testing.T, n int, devices ...*device) {
	t.Helper()
	for _, d := range devices {
		d.waitFor(n)
	}
	for i, from := range devices {
		from.publish(&paho.Publish{Topic: "t/last", QoS: 2, Payload: fmt.Append(nil, "last", i)})
		for _, d := range devices {
			until(t, "the last message", func() bool { return slices.Contains(d.payloads(), fmt.Sprint("last", i)) })
		}
	}
	for _, d := range devices {
		d.mu.Lock()
		d.got = slices.DeleteFunc(d.got, func(p *paho.Publish) bool { return p.Topic == "t/last" })
		d.mu.Unlock()
	}
}

// TestTwoBridges has two bridges between the same brokers carry everything
// both ways. As a group they carry each message once; as strangers each
// carries it once, and nothing comes back.
func TestTwoBridges(t *testing.T) {
	for _, c := range []struct {
		name, share string
		copies      int
	}{
		{"group", "pair", 1},
		{"strangers", "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := newMosquitto(t), newMosquitto(t)
			var bridges []*running
			for _, node := range []string{"n1", "n2"} {
				cfg, deps := quick(here.address(), there.address(), Rule{Direction: Both, Filter: "#"})
				cfg.Share, deps.Node = c.share, node
				bridges = append(bridges, run(t, cfg, deps))
			}
			l := newDevice(t, here.address(), "l", "#", false)
			r := newDevice(t, there.address(), "r", "#", false)
			const n = 200
			for i := range n {
				qos := byte(i % 3)
				l.publish(&paho.Publish{Topic: "t/l", QoS: qos, Payload: fmt.Append(nil, "l", i)})
				r.publish(&paho.Publish{Topic: "t/r", QoS: qos, Payload: fmt.Append(nil, "r", i)})
			}
			settle(t, n+c.copies*n, l, r)
			for _, d := range []*device{l, r} {
				seen := map[string]int{}
				for _, p := range d.payloads() {
					seen[p]++
				}
				for i := range n {
					for _, from := range []string{"l", "r"} {
						want := c.copies
						if from == d.id {
							want = 1
						}
						if got := seen[fmt.Sprint(from, i)]; got != want {
							t.Fatalf("%s got message %d of %s %d times, want %d", d.id, i, from, got, want)
						}
					}
				}
			}
			for i, b := range bridges {
				if s := b.Status(); sum(s.Out.Forwarded) == 0 || sum(s.In.Forwarded) == 0 {
					t.Errorf("bridge %d carried nothing one way: %+v", i, s)
				}
			}
		})
	}
}

// TestRing has three brokers in a ring of three bridges, each of which carries
// everything both ways: more than any pairwise means can stop.
func TestRing(t *testing.T) {
	brokers := []*mosquitto{newMosquitto(t), newMosquitto(t), newMosquitto(t)}
	name := []string{"a", "b", "c"}
	for i := range brokers {
		j := (i + 1) % 3
		cfg, deps := quick(brokers[i].address(), brokers[j].address(), Rule{Direction: Both, Filter: "#"})
		cfg.Name, cfg.Domain, cfg.Remote.Domain = "br"+name[i], name[i], name[j]
		run(t, cfg, deps)
	}
	var devices []*device
	for i, m := range brokers {
		devices = append(devices, newDevice(t, m.address(), name[i], "#", false))
	}
	const n = 50
	for i := range n {
		for _, d := range devices {
			d.publish(&paho.Publish{Topic: "t/" + d.id, QoS: 2, Payload: fmt.Append(nil, i)})
		}
	}
	settle(t, 3*n, devices...)
	for _, d := range devices {
		seen := map[string]int{}
		for _, p := range d.received() {
			seen[p.Topic+string(p.Payload)]++
		}
		for i := range n {
			for _, from := range name {
				// Two ways lead round the ring: at most one copy by each.
				if got := seen[fmt.Sprint("t/", from, i)]; got < 1 || got > 2 || from == d.id && got != 1 {
					t.Fatalf("%s got message %d of %s %d times", d.id, i, from, got)
				}
			}
		}
	}
}

// TestAnswerCopiesProperties has a device send back the user properties of a
// question with its answer, as some do: the answer is no echo.
func TestAnswerCopiesProperties(t *testing.T) {
	here, there := newMosquitto(t), newMosquitto(t)
	cfg, deps := quick(here.address(), there.address(), Rule{Direction: Both, Filter: "#"})
	run(t, cfg, deps)
	l := newDevice(t, here.address(), "l", "ask", false)
	r := newDevice(t, there.address(), "r", "answer", false)
	r.publish(&paho.Publish{Topic: "ask", QoS: 1, Payload: []byte("?")})
	l.waitFor(1)
	user := l.received()[0].Properties.User
	if user.Get(OriginProperty) == "" {
		t.Fatalf("no %s on what came over: %+v", OriginProperty, user)
	}
	l.publish(&paho.Publish{Topic: "answer", QoS: 1, Payload: []byte("!"), Properties: &paho.PublishProperties{User: user}})
	r.waitFor(1)
}
