//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/broker/conformance"
	"github.com/farhop/farhop/node/config"
)

// TestStandalone: a broker without a file, killed with messages for somebody
// who is away. It listens for devices alone, and refuses strangers' networks.
func TestStandalone(t *testing.T) {
	d := newDaemon(t, "alone")
	d.runArgs = []string{"--standalone", "--mqtt", d.mqtt, "--admin", d.admin, "--server-keepalive", "30"}
	d.run()
	if nodes := d.status(); nodes.Region.String() != "local" {
		t.Errorf("region %s", nodes.Region)
	}
	sub := mosquitto(t, "mosquitto_sub", d, nil, "-c", "-i", "reader", "-t", "a/#", "-q", "1", "-C", "1")
	until(t, text("the subscription"), func() bool { return d.status().MQTT.Clients == 1 })
	d.knowsOwn("a/#")
	publish(d, "a/b", 1, "first")
	sub.done()
	d.empty() // its PUBACK is taken: what is killed below has nothing of it to say again
	sent := numbered("m", 50)
	publish(d, "a/b", 1, sent...)
	d.kill()
	if d.logged("mesh=") {
		t.Error("it listens for other nodes")
	}
	d.runArgs = []string{"--standalone", "--mqtt", d.mqtt, "--admin", d.admin}
	d.run()
	again := mosquitto(t, "mosquitto_sub", d, nil, "-c", "-i", "reader", "-t", "a/#", "-q", "1")
	again.once(sent)
	d.stop()

	d.runArgs = []string{"--standalone", "--mqtt", "0.0.0.0:0"}
	d.launch()
	<-d.ended
	if d.err == nil || !d.logged("--mqtt: ", "reachable from other machines") {
		t.Errorf("an open broker for strangers: %v\n%s", d.err, tail(d.logs, 5))
	}
	_, errs, code := newDaemon(t, "other").try("", "run", "--mqtt", "127.0.0.1:1")
	if code != 2 || !strings.Contains(errs, "--standalone") {
		t.Errorf("--mqtt without --standalone: exit code %d, %s", code, errs)
	}
	if _, err := os.Stat(filepath.Join(d.dir, config.FileName)); err != nil {
		t.Errorf("the directory cannot become a node of a mesh: %v", err)
	}
}

// TestConformance plays every case of the MQTT standards against the program.
func TestConformance(t *testing.T) {
	d := newDaemon(t, "judged")
	d.runArgs = []string{"--standalone", "--mqtt", d.mqtt, "--admin", d.admin}
	d.run()
	cases, err := conformance.Cases()
	if err != nil {
		t.Fatal(err)
	}
	r := conformance.Config{}.RunAll(t.Context(), d.mqtt, cases)
	t.Log("\n" + r.Summary())
	if n := r.Count(0, conformance.Passed); r.Count(0, conformance.Failed) > 0 || n < len(cases)-2 {
		t.Errorf("%d of %d cases passed:\n%s", n, len(cases), r.Faults(conformance.Failed, conformance.Lax, conformance.Skipped))
	}
}

// knowsOwn waits until the node has a filter of a device of its own.
func (d *daemon) knowsOwn(filter string) {
	d.t.Helper()
	d.knowsBy(func(string) bool { return true }, filter)
}
