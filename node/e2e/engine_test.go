//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

// TestEngines: a node whose store is of the engine bbolt is killed while
// messages flow to it, through it and from it, and loses nothing that was
// acknowledged. With messages waiting at it, for its device and for the other
// node, its store moves to the journal and back; then all arrive, once and in
// order.
func TestEngines(t *testing.T) {
	full(t)
	earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
	earth.init("earth")
	earth.run()
	link := wire(t, earth, 1, far)
	luna.join(earth.invite("luna", link.Addr().String()))
	luna.edit(func(c *config.Config) { c.Store.Engine = "bbolt" })
	luna.run()
	luna.linked(true, earth)
	if e := luna.status().Store.Engine; e != "bbolt" {
		t.Fatalf("luna has the engine %q", e)
	}
	historian := subscribe(earth, "historian", "up/#", 2)
	luna.knows(earth, "up/#")
	subscribe(luna, "plc", "down/#", 2).kill() // its session stays
	earth.knows(luna, "down/#")

	// Killed twice while messages flow both ways.
	const n = 600
	up, down := numbered("up", n), numbered("down", n)
	upwards := stream(luna, "sensor", "up/1", 2, 3*time.Millisecond, up...)
	downwards := stream(earth, "crew", "down/1", 2, 3*time.Millisecond, down...)
	for i := range 2 {
		target := (i + 1) * n / 4
		until(t, text(fmt.Sprintf("%d messages at earth", target)), func() bool { return len(historian.lines()) >= target })
		luna.kill()
		luna.run()
	}
	upwards.done()
	downwards.done()
	historian.once(up)
	// The publisher at earth is done; what it said must be at luna, durably.
	earth.empty()
	held := luna.status().Store.Messages
	if held == 0 {
		t.Error("nothing waits at luna for its device")
	}

	// What is said while the link is cut waits at luna for earth.
	link.Cut(true)
	later := numbered("later", 200)
	publish(luna, "up/1", 2, later...)
	luna.wait("messages for earth", waitsFor("node earth-1"))
	luna.kill() // not stopped: the store is as it is after a power cut
	for _, to := range []string{"journal", "bbolt", "journal"} {
		migrateTo(luna, to)
	}
	luna.refused([]string{"store.engine says bbolt", "write journal there"}, "run")
	luna.edit(func(c *config.Config) { c.Store.Engine = "" })
	luna.run()
	if s := luna.status().Store; s.Engine != "journal" || s.Messages < held {
		t.Errorf("after the migration luna keeps %+v, had %d for its device alone", s, held)
	}
	link.Cut(false)
	historian.once(append(up, later...))
	plc := mosquitto(t, "mosquitto_sub", luna, nil, "-c", "-i", "plc", "-t", "down/#", "-q", "2")
	plc.once(down)
	// And what comes now follows it, under the numbers that follow.
	last := numbered("last", 20)
	publish(luna, "up/1", 2, last...)
	historian.once(append(append(up, later...), last...))
	publish(earth, "down/1", 2, last...)
	plc.once(append(down, last...))
	for _, d := range []*daemon{earth, luna} {
		d.empty()
		d.wait("no gap in any order", func(s admin.Status) bool { return s.Counters.GapsGivenUp == 0 && s.Counters.OutOfOrder == 0 })
	}
}

// migrateTo moves the store of a stopped node, and removes what was kept, so
// that there can be another migration.
func migrateTo(d *daemon, engine string) {
	d.t.Helper()
	if out := d.do("store", "migrate", "--to", engine); !strings.Contains(out, " to "+engine+": ") {
		d.t.Fatalf("migrate: %s", out)
	}
	d.do("store", "check")
	kept, err := filepath.Glob(filepath.Join(d.dir, "store", "*.migrated-to-*"))
	if err != nil || len(kept) != 1 {
		d.t.Fatalf("kept: %v, %v", kept, err)
	}
	if err := os.RemoveAll(kept[0]); err != nil {
		d.t.Fatal(err)
	}
}
