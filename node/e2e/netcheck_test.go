//go:build linux

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/emulator"
)

// TestNetcheck looks through links of different kinds while they are up, and
// at what is not there.
func TestNetcheck(t *testing.T) {
	relay, earth := newDaemon(t, "relay"), newDaemon(t, "earth-1")
	relay.init("leo")
	relay.run()
	slim := emulator.Profile{Delay: 20 * time.Millisecond, MTU: 1380}
	link := wire(t, relay, 1, slim)
	earth.join(relay.invite("earth", link.Addr().String()))
	none := freePort(t)
	earth.edit(func(c *config.Config) {
		c.Peers = append(c.Peers, config.Peer{Address: config.HostPort(none), LinkProps: config.LinkProps{Profile: "lan", OWLT: config.Duration(time.Millisecond)}})
	})
	earth.run()
	earth.linked(true, relay)
	out, stderr, code := earth.try("", "netcheck", "--json")
	var all []admin.Netcheck
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 2 || code != 6 || !strings.Contains(stderr, "1 peer of 2 not reached") {
		t.Fatalf("%v, exit code %d: %s%s", err, code, out, stderr)
	}
	for _, n := range all {
		if n.Address == none {
			if n.UDP.OK || n.UDP.Cause != "timeout" || n.TCP.State != "refused" || n.MTU.Payload != 0 || n.Clock.Known || n.NAT.State != "unknown" {
				t.Errorf("nobody there: %+v", n)
			}
			continue
		}
		switch {
		case !n.Running || n.Node.String() != "relay" || !n.UDP.OK || n.UDP.RTTms < 38 || n.UDP.HandshakeMS < 38:
			t.Errorf("udp: %+v", n)
		case n.MTU.Payload > 1380 || n.MTU.Payload < 1380-25 || !n.MTU.Done:
			t.Errorf("the link carries packets of 1380 bytes: %+v", n.MTU)
		case n.ECN.Out == "kept":
			t.Errorf("the emulator keeps no marks: %+v", n.ECN)
		case !n.Clock.Known || n.Clock.OffsetMS > n.Clock.WithinMS+1 || -n.Clock.OffsetMS > n.Clock.WithinMS+1:
			t.Errorf("one clock: %+v", n.Clock)
		case n.NAT.State == "none" || n.NAT.Local != earth.mesh || n.NAT.Seen == earth.mesh:
			t.Errorf("the emulator is a translation: %+v", n.NAT)
		case !n.Certified.Ours.After(time.Now()) || !n.Certified.Theirs.After(time.Now()):
			t.Errorf("certificates: %+v", n.Certified)
		}
	}
	earth.linked(true, relay)
	if s := earth.status(); s.Peers[0].Since.After(time.Now().Add(-time.Duration(all[0].UDP.RTTms) * time.Millisecond)) {
		t.Errorf("the check ended the link: %+v", s.Peers[0])
	}
}
