//go:build linux

package e2e

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	bolt "go.etcd.io/bbolt"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// refused runs a command that must fail with one clear message, which holds
// all words.
func (d *daemon) refused(words []string, args ...string) {
	d.t.Helper()
	_, stderr, code := d.try("", args...)
	if code == 0 {
		d.t.Errorf("farhop %v worked", args)
	}
	var said []string
	for line := range strings.SplitSeq(stderr, "\n") {
		if strings.HasPrefix(line, "farhop: ") {
			said = append(said, line)
		}
	}
	if len(said) != 1 {
		d.t.Errorf("farhop %v has %d messages, want one:\n%s", args, len(said), stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr, w) {
			d.t.Errorf("farhop %v does not say %q:\n%s", args, w, stderr)
		}
	}
	if strings.Contains(stderr, "goroutine ") {
		d.t.Errorf("farhop %v panics:\n%s", args, stderr)
	}
}

// TestConfigurationRefused starts nodes with faults in their farhop.yaml.
func TestConfigurationRefused(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	path := filepath.Join(d.dir, config.FileName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new string
		words          []string
	}{
		{"mistyped key", "max_clients:", "max_client:", []string{"farhop.yaml:", "max_client", "did you mean max_clients"}},
		{"unknown section", "\nlog:", "\nfrobnicate: 1\nlog:", []string{"farhop.yaml:", "frobnicate"}},
		{"number without unit", "ttl: 72h", "ttl: 72", []string{"farhop.yaml:", "delivery.ttl"}},
		{"wrong type", "max_clients: 10000", "max_clients: many", []string{"farhop.yaml:", "mqtt.max_clients"}},
		{"second document", "\nlog:", "\n---\nlog:", []string{"farhop.yaml:", "document"}},
		{"other name", "name: earth-1", "name: earth-2", []string{"farhop.yaml", "earth-2", "certificate", "earth-1"}},
		{"other region", "region: earth", "region: mars", []string{"farhop.yaml", "mars", "certificate"}},
		{"mqtt off loopback", d.mqtt, "0.0.0.0:1883", []string{"mqtt.listen", "mqtt.users", "anonymous"}},
		{"empty file", string(good), "", []string{"farhop.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(string(good), c.old) {
				t.Fatalf("farhop.yaml holds no %q", c.old)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(good), c.old, c.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			at := *d
			at.t = t
			at.refused(c.words, "run")
		})
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	d.run() // nothing of this has done harm
}

// TestPortsTaken starts a node whose ports others have, one after the other.
func TestPortsTaken(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.init("earth")
	for _, a := range []struct{ field, address string }{{"mqtt.listen", d.mqtt}, {"admin.listen", d.admin}} {
		ln, err := net.Listen("tcp", a.address)
		if err != nil {
			t.Fatal(err)
		}
		d.refused([]string{a.field, a.address, "another"}, "run")
		ln.Close()
	}
	pc, err := net.ListenPacket("udp", d.mesh)
	if err != nil {
		t.Fatal(err)
	}
	d.refused([]string{"mesh.listen", d.mesh, "another"}, "run")
	pc.Close()
	d.run()
	d.refused([]string{"in use", d.dir}, "run")
	d.wait("still serving", func(admin.Status) bool { return true })
}

// TestDirectories makes and starts nodes where none can be.
func TestDirectories(t *testing.T) {
	d := newDaemon(t, "earth-1")
	d.refused([]string{"no node in", d.dir, "farhop init"}, "run")
	there := *d
	there.dir = "/proc/farhop"
	there.refused([]string{"/proc"}, "init", "--region", "earth")

	d.init("earth")
	d.refused([]string{d.dir, "holds a node already"}, "init", "--region", "earth")
	d.edit(func(c *config.Config) { c.Store.Engine = "bbolt" })
	store := filepath.Join(d.dir, "store", "buffer.db")
	d.run()
	d.stop()
	whole, err := os.ReadFile(store)
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err == nil {
		err = db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("registry")); return err })
	}
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	other, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	torn := slices.Clone(whole)
	for i := 2 * os.Getpagesize(); i < len(torn); i++ {
		torn[i] ^= 0x5a
	}
	for _, c := range []struct {
		name string
		data []byte
		word string
	}{
		{"text", []byte("not a database\n"), "not a farhop buffer"},
		{"empty", nil, "not a farhop buffer"},
		{"another program's", other, "not a farhop buffer"},
		{"cut short", whole[:3*os.Getpagesize()], "buffer.db"},
		{"damaged pages", torn, "damaged"},
	} {
		if err := os.WriteFile(store, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		d.refused([]string{store, c.word, "move"}, "run")
		if now, _ := os.ReadFile(store); !slices.Equal(now, c.data) {
			t.Errorf("%s: the file was modified", c.name)
		}
	}
	if err := os.WriteFile(store, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	d.run()
}

// TestTickets joins with tickets that are no good.
func TestTickets(t *testing.T) {
	earth := newDaemon(t, "earth-1")
	earth.init("earth")
	earth.run()
	gone := func(d *daemon) {
		t.Helper()
		if _, err := os.Stat(d.dir); err == nil {
			t.Errorf("%s was written although the join was refused", d.dir)
		}
		if err := os.RemoveAll(d.dir + ".join"); err != nil { // the key may stay for the next attempt
			t.Fatal(err)
		}
	}
	one, two := newDaemon(t, "luna-1"), newDaemon(t, "luna-2")
	used := earth.invite("luna", earth.mesh)
	one.join(used)
	two.refused([]string{"ticket", "used"}, "join", used)
	gone(two)
	two.refused([]string{"ticket"}, "join", used[:len(used)-4])
	gone(two)
	two.refused([]string{"ticket"}, "join", "farhop1.rubbish")
	gone(two)

	short := strings.TrimSpace(earth.do("invite", "--region", "luna", "--advertise", earth.mesh, "--life", "1s"))
	until(t, text("a ticket of a second to expire"), func() bool {
		k, err := pki.ParseTicket(short)
		if err != nil {
			t.Fatal(err)
		}
		return k.Expired(time.Now())
	})
	two.refused([]string{"ticket", "expired"}, "join", short)
	gone(two)

	// A ticket of another mesh, shown to this one.
	mars := newDaemon(t, "mars-1")
	mars.init("mars")
	mars.run()
	two.refused([]string{"authority"}, "join", "--via", earth.mesh, mars.invite("luna", mars.mesh))
	gone(two)

	// The name is taken.
	three := newDaemon(t, "luna-3")
	three.refused([]string{"luna-1"}, "join", "--name", "luna-1", earth.invite("luna", earth.mesh))
	gone(three)
}

// TestStrangers lets a peer of another authority, and one that offers no
// post-quantum key exchange, dial a node.
func TestStrangers(t *testing.T) {
	earth, mars := newDaemon(t, "earth-1"), newDaemon(t, "mars-1")
	earth.init("earth")
	mars.init("mars")
	mars.edit(func(c *config.Config) { c.Peers = []config.Peer{{Address: config.HostPort(earth.mesh)}} })
	earth.run()
	mars.run()
	// On a busy machine the first attempts may end for want of time.
	mars.wait("the refusal of a peer of another authority", func(s admin.Status) bool {
		return len(s.Peers) == 1 && s.Peers[0].State == admin.PeerDown &&
			(strings.Contains(s.Peers[0].LastError, "authority") || strings.Contains(s.Peers[0].LastError, "mesh"))
	})
	until(t, text("mars to log the refusal"), func() bool { return mars.logged("level=WARN", earth.mesh) })
	if n := len(earth.status().Peers); n != 0 {
		t.Errorf("earth has %d peers", n)
	}

	material, err := pki.LoadMaterial(filepath.Join(earth.dir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	weak := pki.ClientConfig(material, time.Now, addr.Node{})
	weak.CurvePreferences = []tls.CurveID{tls.X25519}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, earth.mesh, weak, nil)
	if err == nil {
		<-conn.Context().Done()
		err = context.Cause(conn.Context())
	}
	t.Logf("X25519 alone: %v", err)
	if ctx.Err() != nil {
		t.Error("a peer with X25519 alone is not refused")
	}
	until(t, text("earth to log the offered groups"), func() bool { return earth.logged("level=WARN", "X25519") })
}
