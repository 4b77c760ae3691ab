//go:build linux

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// The addresses of a ship's two uplinks, and of the shore, which has one.
const (
	shoreAt  = "10.99.9.1"
	modemAt  = "10.99.1.2"
	movedAt  = "10.99.1.77" // the same modem, later
	dishAt   = "10.99.2.2"
	modemHop = "10.99.1.1"
	dishHop  = "10.99.2.1"
)

// ship is two nodes, each in a network of its own, with a modem and a dish
// between them.
type ship struct {
	t           *testing.T
	sea, coast  string // namespaces
	ship, shore *daemon
	sent        int
	noise       *rand.ChaCha8 // nothing on the way makes it smaller
}

func newShip(t *testing.T) *ship {
	s := &ship{t: t, noise: rand.NewChaCha8([32]byte{5}), sea: fmt.Sprintf("farhop-sea-%d", os.Getpid()), coast: fmt.Sprintf("farhop-coast-%d", os.Getpid())}
	for _, ns := range []string{s.sea, s.coast} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			if os.Getenv("FARHOP_E2E") == "require" {
				t.Fatalf("make a network namespace: %v %s: run as root, with iproute2", err, out)
			}
			t.Skipf("make a network namespace: %v %s: run as root, with iproute2", err, out)
		}
		t.Cleanup(func() { s.ip("netns", "del", ns) })
		s.ip("-n", ns, "link", "set", "lo", "up")
	}
	s.ip("-n", s.coast, "addr", "add", shoreAt+"/32", "dev", "lo")
	s.plug("modem", modemAt, modemHop, "1")
	s.plug("dish", dishAt, dishHop, "2")
	s.ip("-n", s.sea, "rule", "add", "from", dishAt, "table", "100")
	s.ip("-n", s.sea, "route", "add", "default", "via", dishHop, "dev", "dish", "table", "100")

	s.shore, s.ship = newDaemon(t, "shore"), newDaemon(t, "ship")
	s.shore.prefix = append([]string{"ip", "netns", "exec", s.coast}, s.shore.prefix...)
	s.ship.prefix = append([]string{"ip", "netns", "exec", s.sea}, s.ship.prefix...)
	s.shore.mesh = shoreAt + ":7330"
	s.shore.init("coast")
	s.shore.launch()
	s.answers(s.shore)
	s.ship.join(s.shore.invite("sea", s.shore.mesh))
	s.ship.edit(func(c *config.Config) {
		c.Mesh.Listen = "0.0.0.0:7330"
		c.Peers = nil
		for _, p := range []config.Peer{
			{From: "modem", Uplink: config.Uplink{Name: "lte", Cost: 1}},
			{From: dishAt, Uplink: config.Uplink{Name: "sat", Cost: 10}},
		} {
			p.Address, p.Node = config.HostPort(s.shore.mesh), addr.MustNode("shore")
			c.Peers = append(c.Peers, p)
		}
	})
	s.ship.launch()
	s.answers(s.ship)
	until(t, text("the session of the office"), func() bool {
		s.shore.try("", "sub", "-t", "log/#", "--client", "office", "--wait", "1s") // that may be too short for a subscription
		return s.wants(s.shore)
	})
	until(t, text("the ship to know what the shore wants"), func() bool { return s.wants(s.ship) })
	return s
}

// wants reports whether a node knows that the shore wants the log.
func (s *ship) wants(d *daemon) bool {
	var nodes []admin.Node
	out, _, code := d.try("", "nodes", "--json")
	return code == 0 && json.Unmarshal([]byte(out), &nodes) == nil && slices.ContainsFunc(nodes, func(n admin.Node) bool {
		return n.Node.String() == "shore" && slices.Contains(n.Interest, "log/#")
	})
}

// ip changes the networks.
func (s *ship) ip(args ...string) {
	s.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
	}
}

// plug lays a cable to the coast and has the ship reach the shore by it.
func (s *ship) plug(name, here, there, metric string) {
	s.t.Helper()
	s.ip("link", "add", name, "netns", s.sea, "type", "veth", "peer", "name", name, "netns", s.coast)
	s.ip("-n", s.sea, "addr", "add", here+"/24", "dev", name)
	s.ip("-n", s.coast, "addr", "add", there+"/24", "dev", name)
	s.ip("-n", s.sea, "link", "set", name, "up")
	s.ip("-n", s.coast, "link", "set", name, "up")
	s.ip("-n", s.sea, "route", "add", shoreAt, "via", there, "dev", name, "metric", metric)
}

func (s *ship) status(d *daemon) (st admin.Status, ok bool) {
	out, _, code := d.try("", "status", "--json")
	return st, code == 0 && json.Unmarshal([]byte(out), &st) == nil
}

func (s *ship) answers(d *daemon) {
	s.t.Helper()
	until(s.t, func() string { return d.name + " to answer:\n" + tail(d.logs, 20) }, func() bool { _, ok := s.status(d); return ok })
}

// link waits until a link of the ship is as it should be.
func (s *ship) link(name, what string, ok func(admin.Peer) bool) {
	s.t.Helper()
	var last admin.Peer
	until(s.t, func() string { return fmt.Sprintf("%s to be %s: %+v", name, what, last) }, func() bool {
		st, _ := s.status(s.ship)
		for _, p := range st.Peers {
			if p.Link == name {
				last = p
				return ok(p)
			}
		}
		return false
	})
}

// up waits until a link is up, and whether anything goes by it.
func (s *ship) up(name string, used bool) {
	s.t.Helper()
	s.link(name, "up", func(p admin.Peer) bool { return p.State == admin.PeerUp && len(p.Classes) > 0 == used })
}

// bytes is what the ship has sent by an interface.
func (s *ship) bytes(name string) (n int) {
	s.t.Helper()
	out, err := exec.Command("ip", "netns", "exec", s.sea, "cat", "/sys/class/net/"+name+"/statistics/tx_bytes").Output()
	if err == nil {
		n, err = strconv.Atoi(strings.TrimSpace(string(out)))
	}
	if err != nil {
		s.t.Fatalf("what went by %s: %v", name, err)
	}
	return n
}

// report publishes messages of 1 KiB on the ship.
func (s *ship) report(n int) {
	s.t.Helper()
	var lines strings.Builder
	noise := make([]byte, 750)
	for range n {
		_, _ = s.noise.Read(noise) // never fails
		fmt.Fprintf(&lines, "%d %s\n", s.sent, base64.StdEncoding.EncodeToString(noise))
		s.sent++
	}
	if out, errs, code := s.ship.try(lines.String(), "pub", "-t", "log/engine", "-q", "1", "-l"); code != 0 {
		s.t.Fatalf("publish: code %d %s %s", code, out, errs)
	}
}

// arrive takes messages at the shore, from one on, and checks that each came once.
func (s *ship) arrive(from int) {
	s.t.Helper()
	out := s.shore.do("sub", "-t", "log/#", "--client", "office", "-n", strconv.Itoa(s.sent-from), "--wait", patience.String(), "--payload")
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		if number, _, _ := strings.Cut(line, " "); number != strconv.Itoa(from+i) {
			s.t.Fatalf("line %d of what arrived is message %s, want %d", i, number, from+i)
		}
	}
}

// TestShipChangesUplinks: one shore at one address, reached by a modem that is
// plugged out and comes back with another address, and by a dish meanwhile.
func TestShipChangesUplinks(t *testing.T) {
	full(t)
	s := newShip(t)
	s.up("lte", true)
	s.up("sat", false)
	modem, dish := s.bytes("modem"), s.bytes("dish")
	s.report(200)
	s.arrive(0)
	if m, d := s.bytes("modem")-modem, s.bytes("dish")-dish; m < 200<<10/2 || d > m/2 {
		t.Errorf("%d bytes went by the modem, which is cheaper, and %d by the dish", m, d)
	}

	s.ip("-n", s.sea, "link", "del", "modem")
	dish = s.bytes("dish")
	s.report(200)
	s.arrive(200)
	if d := s.bytes("dish") - dish; d < 200<<10/2 {
		t.Errorf("without the modem %d bytes went by the dish", d)
	}
	s.link("lte", "down, and to say why", func(p admin.Peer) bool {
		return p.State != admin.PeerUp && strings.Contains(p.LastError, "from modem: this machine has no such interface now")
	})

	s.plug("modem", movedAt, modemHop, "1")
	s.up("lte", true)
	modem, dish = s.bytes("modem"), s.bytes("dish")
	s.report(200)
	s.arrive(400)
	if m, d := s.bytes("modem")-modem, s.bytes("dish")-dish; m < 200<<10/2 || d > m/2 {
		t.Errorf("once it was back, %d bytes went by the modem, and %d by the dish", m, d)
	}
	s.ship.stop()
	s.shore.stop()
}
