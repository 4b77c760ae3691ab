//go:build linux

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
)

// TestTwoNodes is the walk of the first page of the manual.
func TestTwoNodes(t *testing.T) {
	earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
	earth.init("earth")
	earth.run()
	link := wire(t, earth, 1, far)
	luna.join(earth.invite("luna", link.Addr().String()))
	luna.run()
	luna.linked(true, earth)
	earth.linked(true, luna)
	for _, p := range luna.status().Peers {
		if p.Kex != "X25519MLKEM768" {
			t.Errorf("key exchange %q", p.Kex)
		}
	}

	sub := subscribe(earth, "historian", "plant/#", 1)
	luna.knows(earth, "plant/#")
	sent := numbered("t", 20)
	publish(luna, "plant/1/temp", 1, sent...)
	sub.once(sent)
	luna.empty()
	earth.empty()

	luna.stop()
	earth.wait("the link to be down", func(s admin.Status) bool {
		return !slices.ContainsFunc(s.Peers, func(p admin.Peer) bool { return p.State == admin.PeerUp })
	})
	earth.stop()
	for _, d := range []*daemon{earth, luna} {
		for _, level := range []string{"level=ERROR", "panic"} {
			if d.logged(level) {
				t.Errorf("%s has %s in its log:\n%s", d.name, level, tail(d.logs, 40))
			}
		}
	}
	if _, errs, code := earth.try("", "status"); code != 3 || !strings.Contains(errs, "farhop run") {
		t.Errorf("status without a daemon: exit code %d, %s", code, errs)
	}
}
