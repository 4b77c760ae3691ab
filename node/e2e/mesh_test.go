//go:build linux

package e2e

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// far is what most tests put between two nodes.
var far = emulator.Profile{Delay: 40 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.01}

// wire puts an emulated link in front of a node's mesh listener.
func wire(t *testing.T, to *daemon, seed uint64, p emulator.Profile) *emulator.Link {
	t.Helper()
	l, err := emulator.Open(emulator.Config{Listen: "127.0.0.1:0", To: to.mesh, Up: p, Down: p, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run(t.Context()) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-ended; err != nil {
			t.Errorf("emulated link: %v", err)
		}
	})
	return l
}

// mesh is the usual one: earth and luna, each over an emulated link of its own
// to a relay that holds the authority.
type mesh struct {
	relay, earth, luna *daemon
	toEarth, toLuna    *emulator.Link
}

// newMesh makes and starts three nodes and waits until all is linked.
func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{relay: newDaemon(t, "relay"), earth: newDaemon(t, "earth-1"), luna: newDaemon(t, "luna-1")}
	m.relay.init("leo")
	m.relay.run()
	m.toEarth, m.toLuna = wire(t, m.relay, 1, far), wire(t, m.relay, 2, far)
	m.earth.join(m.relay.invite("earth", m.toEarth.Addr().String()))
	m.luna.join(m.relay.invite("luna", m.toLuna.Addr().String()))
	m.earth.run()
	m.luna.run()
	m.earth.linked(true, m.relay)
	m.luna.linked(true, m.relay)
	return m
}

// get asks the daemon's HTTP server for what needs no token.
func (d *daemon) get(path string) (code int, body string) {
	resp, err := http.Get("http://" + d.admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}
