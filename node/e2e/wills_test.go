//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
)

// mortal connects a client that has a will: its own name, for will/NAME.
func mortal(d *daemon, name string, args ...string) *client {
	d.t.Helper()
	args = append([]string{"-i", name, "-t", "for/" + name, "--will-topic", "will/" + name, "--will-payload", name}, args...)
	return mosquitto(d.t, "mosquitto_sub", d, nil, args...)
}

// serves waits until so many clients are connected.
func (d *daemon) serves(clients int) {
	d.t.Helper()
	want := fmt.Sprintf("\nfarhop_mqtt_clients %d\n", clients)
	until(d.t, text(fmt.Sprintf("%s to serve %d clients", d.name, clients)), func() bool {
		_, body := d.get("/metrics")
		return strings.Contains(body, want)
	})
}

// hears waits until all wills have come, and fails if one comes twice, or
// another does.
func (c *client) hears(wills ...string) {
	c.t.Helper()
	if r := c.receive(wills); r.repeats > 0 || len(r.foreign) > 0 {
		c.t.Errorf("%s: %s", c.what, r)
	}
}

// TestWillsSurviveKill: a node is killed, and its devices are lost with it. Their
// wills come once when it runs again, and those of devices that took their
// leave, or are back before their delay is over, do not.
func TestWillsSurviveKill(t *testing.T) {
	earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
	earth.init("earth")
	earth.run()
	link := wire(t, earth, 1, far)
	luna.join(earth.invite("luna", link.Addr().String()))
	luna.run()
	luna.linked(true, earth)
	sub := subscribe(luna, "historian", "will/#", 1)
	earth.knows(luna, "will/#")

	v5 := []string{"-V", "5", "-c", "-x", "300"}
	lost := []*client{
		mortal(earth, "at-most-once"),
		mortal(earth, "at-once", "--will-qos", "1"),
		mortal(earth, "kept", "--will-qos", "2", "--will-retain"),
		mortal(earth, "delayed", append(v5, "--will-qos", "1", "-D", "will", "will-delay-interval", "2")...),
	}
	back := mortal(earth, "back", append(v5, "--will-qos", "1", "-D", "will", "will-delay-interval", "60")...)
	polite := mortal(earth, "polite", "--will-qos", "1", "-W", "1")
	<-polite.ended
	for _, name := range []string{"at-most-once", "at-once", "kept", "delayed", "back"} {
		earth.awaits(name, "connected", func(s admin.Session) bool { return s.Connected })
	}
	earth.awaits("polite", "gone", func(s admin.Session) bool { return s.Client == "" })
	// A node serves, and lets go, before that is on disk. What was before an
	// acknowledged message is there with it.
	publish(earth, "will/mark", 1, "mark")

	earth.kill()
	for _, d := range lost {
		d.kill()
	}
	earth.run()
	earth.serves(1)
	all := []string{"mark", "at-most-once", "at-once", "kept", "delayed"}
	sub.hears(all...)
	agrees(luna, "will/#", "will/kept=kept")
	agrees(earth, "will/#", "will/kept=kept")

	// The next start has nothing left to say.
	back.kill()
	earth.kill()
	earth.run()
	publish(earth, "will/end", 1, "end")
	sub.hears(append(all, "end")...)
	for _, d := range []*daemon{earth, luna} {
		if d.logged("level=ERROR") || d.logged("panic") {
			t.Errorf("%s has errors in its log:\n%s", d.name, tail(d.logs, 40))
		}
	}
}

// TestWillsAndLinks: a link between regions that falls is no loss of a device. A
// device that is lost while it is down is heard of when it is up again.
func TestWillsAndLinks(t *testing.T) {
	earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
	earth.init("earth")
	earth.run()
	link := wire(t, earth, 1, far)
	luna.join(earth.invite("luna", link.Addr().String()))
	luna.run()
	luna.linked(true, earth)
	sub := subscribe(earth, "historian", "will/#", 1)
	luna.knows(earth, "will/#")
	stays, goes := mortal(luna, "stays", "--will-qos", "1"), mortal(luna, "goes", "--will-qos", "1")
	luna.serves(2)

	link.Cut(true)
	luna.linked(false, earth)
	earth.linked(false, luna)
	link.Cut(false)
	luna.linked(true, earth)
	publish(luna, "will/mark", 1, "mark")
	sub.hears("mark")

	link.Cut(true)
	luna.linked(false, earth)
	goes.kill()
	luna.serves(1)
	link.Cut(false)
	sub.hears("mark", "goes")

	// The shutdown of a node is a loss to its devices: said before it ends, it
	// waits on disk.
	luna.stop()
	stays.kill()
	luna.run()
	sub.hears("mark", "goes", "stays")
}

// TestWillIsLast: a will comes behind all that its client published, to sessions
// of other nodes and to the live of its own.
func TestWillIsLast(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	held := subscribe(d, "historian", "line/#", 1)
	live := mosquitto(t, "mosquitto_sub", d, nil, "-i", "live", "-t", "+/1", "-q", "1")
	d.knows(d, "+/1")

	// CONNECT of "dying" with a will at QoS 1, then PUBLISH at QoS 1 and 0 in
	// turn, and the end of what it says (MQTT 3.1.1, 3.1 and 3.3).
	said := []byte("\x10\x1f\x00\x04MQTT\x04\x0e\x00\x3c\x00\x05dying\x00\x06line/1\x00\x04gone")
	sent := numbered("m", 200)
	for i, m := range sent {
		if i%2 == 0 {
			said = append(append(append(said, "\x32\x11\x00\x06line/1"...), 0, byte(i+1)), m...)
		} else {
			said = append(append(said, "\x30\x0f\x00\x06line/1"...), m...)
		}
	}
	conn, err := net.Dial("tcp", d.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(said); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
	live.once(append(sent, "gone"))
	held.hears(append(sent, "gone")...) // QoS 0 and 1 in orders of their own (MQTT 5, 4.6)
	if got := held.lines(); got[len(got)-1] != "gone" {
		t.Errorf("%s after the will", got[len(got)-1])
	}
}
