package bridge

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"
)

// pair is two brokers with a bridge behind gates.
type pair struct {
	here, there         *mosquitto
	gateHere, gateThere *gate
	cfg                 Config
	deps                Deps
}

func newPair(t *testing.T, version string, rules ...Rule) *pair {
	t.Helper()
	p := &pair{here: newMosquitto(t), there: newMosquitto(t)}
	p.gateHere, p.gateThere = newGate(t, p.here.address()), newGate(t, p.there.address())
	p.cfg, p.deps = quick(p.gateHere.address(), p.gateThere.address(), rules...)
	p.cfg.Remote.Version = version
	p.deps.Local = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", p.gateHere.address())
	}
	return p
}

// TestOutage has 10,000 messages wait for a remote that is down, in the local
// session alone, and arrive in order, at least once; then the same inwards.
func TestOutage(t *testing.T) {
	for version, n := range map[string]int{V5: 10_000, V311: 2_000} {
		t.Run(version, func(t *testing.T) {
			p := newPair(t, version, Rule{Direction: Out, Filter: "up/#"}, Rule{Direction: In, Filter: "down/#"})
			b := run(t, p.cfg, p.deps)
			l := newDevice(t, p.here.address(), "l", "down/#", false)
			r := newDevice(t, p.there.address(), "r", "up/#", false)

			p.there.stop(syscall.SIGTERM)
			until(t, "the bridge to notice", func() bool { return b.Status().State != Connected })
			l.flood("up/x", 0, n, 1)
			until(t, "an attempt to fail", func() bool { return b.Status().State == Waiting })
			if got := sum(b.Status().Out.Forwarded); got != 0 {
				t.Errorf("%d messages were taken out of the session with no remote", got)
			}
			p.there.start()
			r.mustHold(n)

			p.gateHere.set(true)
			r.flood("down/x", 0, n, 1)
			p.gateHere.set(false)
			l.mustHold(n)
			if s := b.Status(); s.Links < 3 || s.Attempts < s.Links || s.LastError != "" {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestRemoteNeverReached has messages wait for a remote that no process of the
// bridge has reached so far, retained ones among them, over a restart.
func TestRemoteNeverReached(t *testing.T) {
	for _, version := range []string{V5, V311} {
		t.Run(version, func(t *testing.T) {
			p := newPair(t, version, Rule{Direction: Out, Filter: "up/#"})
			p.gateThere.set(true)
			there := false
			p.deps.Session = func(context.Context, string) ([]string, bool, error) {
				if there {
					return []string{"up/#"}, true, nil
				}
				return nil, false, nil
			}
			l := newDevice(t, p.here.address(), "l", "none", false)
			l.publish(&paho.Publish{Topic: "up/r", QoS: 1, Retain: true, Payload: []byte("retained")})
			b := launch(t, p.cfg, p.deps)
			until(t, "an attempt to fail", func() bool { return b.Status().State == Waiting })
			l.flood("up/x", 0, 10, 1)
			b.stop()
			there = true
			b = launch(t, p.cfg, p.deps)
			until(t, "an attempt to fail", func() bool { return b.Status().State == Waiting })
			l.flood("up/x", 10, 10, 1)
			r := newDevice(t, p.there.address(), "r", "up/#", false)
			p.gateThere.set(false)
			r.waitFor(21)
			got := r.payloads()
			if n := slices.Index(got, "retained"); n < 0 || !slices.Equal(slices.Delete(got, n, n+1), sequence(20)) {
				t.Errorf("got %q", r.payloads())
			}
		})
	}
}

// TestNewRule starts the bridge again with another rule while the remote is
// away: what the rule is for waits from then on, in order with nothing lost of
// what waited before, and its retained message goes over once.
func TestNewRule(t *testing.T) {
	for _, version := range []string{V5, V311} {
		t.Run(version, func(t *testing.T) {
			p := newPair(t, version, Rule{Direction: Out, Filter: "up/#"})
			l := newDevice(t, p.here.address(), "l", "", false)
			r := newDevice(t, p.there.address(), "r", "#", false)
			b := run(t, p.cfg, p.deps)
			p.gateThere.set(true)
			until(t, "the bridge to notice", func() bool { return b.Status().State != Connected })
			l.flood("up/x", 0, 10, 2)
			b.stop()
			l.publish(&paho.Publish{Topic: "new/kept", QoS: 1, Retain: true, Payload: []byte("retained")})
			p.deps.Session = func(context.Context, string) ([]string, bool, error) { return []string{"up/#"}, true, nil }
			p.cfg.Rules = append(p.cfg.Rules, Rule{Direction: Out, Filter: "new/#"})
			b = launch(t, p.cfg, p.deps)
			until(t, "an attempt to fail", func() bool { return b.Status().State == Waiting })
			l.flood("new/x", 10, 10, 2)
			p.gateThere.set(false)
			r.waitFor(21)
			got := r.payloads()
			if n := slices.Index(got, "retained"); n < 0 || !slices.Equal(slices.Delete(got, n, n+1), sequence(20)) {
				t.Errorf("got %q", r.payloads())
			}
		})
	}
}

// TestCuts breaks the connections again and again under traffic of both ways.
// QoS 2 arrives exactly once and in order, QoS 1 at least once and in order.
func TestCuts(t *testing.T) {
	const n, step = 3000, 250
	for _, version := range []string{V5, V311} {
		for _, qos := range []byte{1, 2} {
			t.Run(fmt.Sprintf("%s QoS %d", version, qos), func(t *testing.T) {
				p := newPair(t, version, Rule{Direction: Out, Filter: "up/#"}, Rule{Direction: In, Filter: "down/#"})
				b := run(t, p.cfg, p.deps)
				l := newDevice(t, p.here.address(), "l", "down/#", false)
				r := newDevice(t, p.there.address(), "r", "up/#", false)
				for i := 0; i < n; i += step {
					until(t, "the next link", func() bool { return b.Status().Links > uint64(i/step) })
					l.flood("up/x", i, step, qos)
					r.flood("down/x", i, step, qos)
					[]*gate{p.gateThere, p.gateHere}[i/step%2].cut()
				}
				check := func(d *device) {
					if qos == 2 {
						d.waitFor(n)
						d.mustBe(sequence(n))
						return
					}
					d.mustHold(n)
				}
				check(l)
				check(r)
				if links := b.Status().Links; links < n/step {
					t.Errorf("%d links for %d cuts", links, n/step)
				}
			})
		}
	}
}

func distinct(d *device) int {
	seen := map[string]bool{}
	for _, p := range d.payloads() {
		seen[p] = true
	}
	return len(seen)
}

// TestCrash ends the bridge without a word to either broker, at any point of
// the handshakes, and starts one that knows nothing. QoS 2 arrives exactly
// once nonetheless.
func TestCrash(t *testing.T) {
	const n, step = 3000, 300
	for _, version := range []string{V5, V311} {
		t.Run(version, func(t *testing.T) {
			p := newPair(t, version, Rule{Direction: Out, Filter: "up/#"}, Rule{Direction: In, Filter: "down/#"})
			b := run(t, p.cfg, p.deps)
			l := newDevice(t, p.here.address(), "l", "down/#", false)
			r := newDevice(t, p.there.address(), "r", "up/#", false)
			for i := 0; i < n; i += step {
				l.flood("up/x", i, step, 2)
				r.flood("down/x", i, step, 2)
				shut(p.gateHere, p.gateThere)
				b.stop()
				p.gateHere.set(false)
				p.gateThere.set(false)
				b = run(t, p.cfg, p.deps)
				repeated(l, r)
			}
			for _, d := range []*device{l, r} {
				d.waitFor(n)
				d.mustBe(sequence(n))
			}
		})
	}
}

// repeated returns when the brokers of these devices have repeated what was open
// in the sessions that came back: they do one thing after the other, and that
// before they answer here. Mosquitto 2.0.11 whose connection breaks while it
// repeats its PUBRELs begins those handshakes anew on the next, with PUBLISH
// (db__message_reconnect_reset_outgoing), and the message goes over again.
func repeated(devices ...*device) {
	for _, d := range devices {
		d.t.Helper()
		d.publish(&paho.Publish{Topic: "not/bridged", QoS: 1})
	}
}

// TestRestarts restarts each broker in turn under traffic. What the
// brokers took, in which order, is exactly what was sent.
func TestRestarts(t *testing.T) {
	const n, step = 1500, 250
	p := newPair(t, V5, Rule{Direction: Both, Filter: "x/#"})
	b := run(t, p.cfg, p.deps)
	l := newDevice(t, p.here.address(), "l", "", false)
	r := newDevice(t, p.there.address(), "r", "", false)
	ls := newWitness(t, p.here.address(), "ls", "x/down")
	rs := newWitness(t, p.there.address(), "rs", "x/up")
	for i := 0; i < n; i += step {
		l.flood("x/up", i, step-1, 2)
		r.flood("x/down", i, step-1, 2)
		l.publish(&paho.Publish{Topic: "x/up", QoS: 2, Payload: fmt.Append(nil, i+step-1)}) // answered after all before it
		r.publish(&paho.Publish{Topic: "x/down", QoS: 2, Payload: fmt.Append(nil, i+step-1)})
		m, d := []*mosquitto{p.here, p.there}[i/step%2], []*device{l, r}[i/step%2]
		was := d.client()
		m.stop(syscall.SIGTERM)
		m.start()
		until(t, "the device to be back", func() bool { return d.client() != was })
	}
	until(t, "all to go over", func() bool {
		s := b.Status()
		return s.State == Connected && sum(s.Out.Forwarded) >= n && sum(s.In.Forwarded) >= n && s.Out.UnderWay+s.In.UnderWay == 0
	})
	for _, d := range []*device{ls, rs} {
		d.waitFor(n)
		d.mustBe(sequence(n))
	}
}

// TestStaleID finds a packet id taken at the remote from a time of which the
// local broker knows nothing. The message that comes under the same id now is
// another one, and must not be taken for a repeat.
func TestStaleID(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			here, there := newMosquitto(t), newMosquitto(t)
			r := newDevice(t, there.address(), "r", "t", false)
			cfg, deps := quick(here.address(), there.address(), Rule{Direction: Out, Filter: "t"})
			if version == 4 {
				cfg.Remote.Version = V311
			}
			halfway(t, there.address(), version, "farhop-"+cfg.Name, "t", 20)
			run(t, cfg, deps)
			l := newDevice(t, here.address(), "l", "", false)
			for i := range 20 {
				l.publish(&paho.Publish{Topic: "t", QoS: 2, Payload: fmt.Append(nil, "new", i)})
			}
			r.waitFor(40)
			if n := distinct(r); n != 40 {
				t.Errorf("%d different messages of 40: %q", n, r.payloads())
			}
		})
	}
}

// halfway leaves n messages of QoS 2 at a broker between PUBREC and PUBREL.
func halfway(t *testing.T, addr string, version byte, id, topic string, n int) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := connect(t.Context(), conn, hello{side: remote, login: Login{ClientID: id}, version: version, window: 100, maxPacket: 1000, keepAlive: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var b bytes.Buffer
		pk := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, ProtocolVersion: version, TopicName: topic, PacketID: uint16(i + 1), Payload: fmt.Append(nil, "old", i)}
		if err := encode(&b, pk); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		if pk, err := readPacket(c.r, version, 1000); err != nil || pk.FixedHeader.Type != packets.Pubrec {
			t.Fatalf("%+v, %v", pk, err)
		}
	}
}
