//go:build linux

package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/node/config"
)

// TestFront: one node with every kind of listener, a password file, client
// certificates and an ACL file, as unchanged clients see it.
func TestFront(t *testing.T) {
	d, ca := newDaemon(t, "gate"), newCA(t)
	d.init("earth")
	server, serverKey := ca.issue("server")
	pump, pumpKey := ca.issue("pump-7")
	sock := filepath.Join(t.TempDir(), "mqtt.sock")
	secure, ws, fast := freePort(t), freePort(t), freePort(t)
	d.write("acl.txt", "user alice\ntopic readwrite plant/#\nuser pump-7\ntopic write plant/7/#\n")
	d.write("users.txt", d.password("alice", "secret"))
	d.edit(func(c *config.Config) {
		m := &c.MQTT
		m.Users, m.Auth = "users.txt", config.Auth{MTLS: config.AuthMTLS{Enabled: true, User: true}, ACL: "acl.txt"}
		m.Listeners = []config.Listener{
			{URL: "tls://" + secure, Cert: server, Key: serverKey, ClientCA: ca.file, RequireClientCert: true},
			{URL: "ws://" + ws + "/mqtt"},
			{URL: "unix://" + sock, Mode: 0o600},
			{URL: "quic://" + fast, Cert: server, Key: serverKey},
		}
	})
	d.do("config", "check")
	d.run()
	alice := []string{"-u", "alice", "-P", "secret"}
	_, securePort, _ := net.SplitHostPort(secure)
	withCert := []string{"-p", securePort, "--cafile", ca.file, "--cert", pump, "--key", pumpKey}

	sub := mosquitto(t, "mosquitto_sub", d, nil, append([]string{"--unix", sock, "-t", "plant/#", "-q", "1"}, alice...)...)
	d.wait("a client", func(s status) bool { return s.MQTT.Clients == 1 && len(s.MQTT.Listeners) == 4 })
	d.knowsOwn("plant/#")
	say := func(topic, text string, args ...string) *client {
		return mosquitto(t, "mosquitto_pub", d, nil, append(args, "-t", topic, "-m", text, "-q", "1")...)
	}
	say("plant/1", "tcp", alice...).done()
	say("plant/1", "unix", append([]string{"--unix", sock}, alice...)...).done()
	say("plant/7/temp", "tls", withCert...).done()
	deviceSays(t, dialWS(t, "ws://"+ws+"/mqtt"), "web", "plant/1", "ws")
	deviceSays(t, dialQUIC(t, fast, ca.client()), "roaming", "plant/1", "quic")
	sub.once([]string{"tcp", "unix", "tls", "ws", "quic"})

	say("plant/1", "no", "-u", "alice", "-P", "wrong").refused("not authorised", "bad user name or password")
	say("plant/1", "no").refused("not authorised")
	say("plant/1", "no", "-p", securePort, "--cafile", ca.file).refused() // no certificate
	say("other/1", "no", append([]string{"-V", "5", "-d"}, alice...)...).ends("rc:135")
	say("plant/1", "no", append([]string{"-V", "5", "-d"}, withCert...)...).ends("rc:135")

	d.write("users.txt", d.password("alice", "secret")+d.password("bob", "builder"))
	until(t, text("the new user to be let in"), func() bool {
		c := say("nothing", "for him", "-V", "5", "-u", "bob", "-P", "builder")
		<-c.ended
		return c.err == nil
	})
	d.stop()
	if _, err := os.Stat(sock); err == nil {
		t.Error("the socket stays when the node stops")
	}
}

// TestFrontByFlag: what the interoperability tests of others need is there
// without a file: a filter that is denied beside one that holds it.
func TestFrontByFlag(t *testing.T) {
	d := newDaemon(t, "alone")
	sock := filepath.Join(t.TempDir(), "mqtt.sock")
	acl := filepath.Join(t.TempDir(), "acl.txt")
	if err := os.WriteFile(acl, []byte("pattern readwrite #\npattern deny test/nosubscribe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.runArgs = []string{"--standalone", "--mqtt", d.mqtt, "--listen", "unix://" + sock, "--acl", acl, "--admin", d.admin}
	d.run()
	for filter, granted := range map[string]bool{"#": true, "test/#": true, "test/nosubscribe": false, "test/other": true} {
		conn, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := subscribed(t, conn, filter); got != granted {
			t.Errorf("%s is granted: %t", filter, got)
		}
	}
}

// TestFrontBridge: a bridge to a real broker, both ways, with the node killed
// on the way. Everything is QoS 2 and comes exactly once.
func TestFrontBridge(t *testing.T) {
	m := runMosquitto(t)
	d := newDaemon(t, "site")
	d.init("site")
	d.write("acl.txt", "user alice\ntopic readwrite #\n")
	d.write("users.txt", d.password("alice", "secret"))
	d.edit(func(c *config.Config) {
		c.MQTT.Users, c.MQTT.Auth.ACL = "users.txt", "acl.txt"
		c.MQTT.Bridges = []config.Bridge{{
			Name: "cloud", Remote: config.BridgeRemote{URL: "mqtt://" + m.mqtt},
			Rules: []config.BridgeRule{
				{Direction: "out", Filter: "up/#", RemotePrefix: "site/"},
				{Direction: "in", Filter: "down/#", RemotePrefix: "site/"},
			},
		}}
	})
	connected := func(s status) bool { return len(s.MQTT.Bridges) == 1 && s.MQTT.Bridges[0].State == "connected" }
	d.run()
	d.wait("the bridge", connected)
	if text := d.do("status"); !strings.Contains(text, "cloud") || !strings.Contains(text, "connected") {
		t.Errorf("the status does not tell of the bridge:\n%s", text)
	}
	login := []string{"-u", "alice", "-P", "secret"}
	send := func(at *daemon, topic string, messages []string, args ...string) *client {
		return mosquitto(t, "mosquitto_pub", at, strings.NewReader(strings.Join(messages, "\n")+"\n"), append(args, "-l", "-t", topic, "-q", "2")...)
	}
	far := mosquitto(t, "mosquitto_sub", m, nil, "-c", "-i", "far", "-t", "site/up/#", "-q", "2")
	here := listenAs(d, "near", "down/#", 2, false, "alice", "secret") // see exact: the node is killed on it
	up, down := numbered("up", 200), numbered("down", 200)
	send(m, "site/down/x", down[:100]).done()
	send(d, "up/x", up[:100], login...).done()
	here.receive(down[:50]) // some are under way
	d.kill()
	send(m, "site/down/x", down[100:]).done()
	d.run()
	d.wait("the bridge again", connected)
	send(d, "up/x", up[100:], login...).done()
	far.once(up)
	if r := here.receive(down); r.repeats > 0 || len(r.foreign) > 0 || !r.ordered {
		t.Errorf("inwards: %s", r)
	}
}

// write puts a file into the node's directory.
func (d *daemon) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// password makes a line of a password file.
func (d *daemon) password(user, password string) string {
	d.t.Helper()
	line, errs, code := d.try(password+"\n", "passwd", user)
	if code != 0 {
		d.t.Fatalf("farhop passwd: %s", errs)
	}
	return line
}

// refused wants a client that ends with a fault, and says one of the texts.
func (c *client) refused(texts ...string) {
	c.t.Helper()
	<-c.ended
	said := strings.ToLower(c.errs.String() + strings.Join(c.lines(), "\n"))
	if c.err == nil || len(texts) > 0 && !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(said, s) }) {
		c.t.Errorf("%s: %v, %s", c.what, c.err, said)
	}
}

// ends wants a client that says a text, however it ends.
func (c *client) ends(text string) {
	c.t.Helper()
	<-c.ended
	if said := strings.ToLower(c.errs.String() + strings.Join(c.lines(), "\n")); !strings.Contains(said, text) {
		c.t.Errorf("%s: %v, %s", c.what, c.err, said)
	}
}

// login is a CONNECT of MQTT 3.1.1 as alice.
func login(id string) []byte {
	body := "\x00\x04MQTT\x04\xc2\x00\x3c" + field(id) + field("alice") + field("secret")
	return append([]byte{0x10, byte(len(body))}, body...)
}

func field(s string) string { return string([]byte{0, byte(len(s))}) + s }

// exchange writes a packet and wants an answer.
func exchange(t *testing.T, c io.ReadWriter, packet []byte, answer int) string {
	t.Helper()
	got := make([]byte, answer)
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("instead of an answer to % x: %v", packet, err)
	}
	return string(got)
}

// deviceSays publishes one message of QoS 1 as alice.
func deviceSays(t *testing.T, c io.ReadWriter, id, topic, message string) {
	t.Helper()
	if got := exchange(t, c, login(id), 4); got != "\x20\x02\x00\x00" {
		t.Fatalf("%s: CONNACK % x", id, got)
	}
	body := field(topic) + "\x00\x07" + message
	if got := exchange(t, c, append([]byte{0x32, byte(len(body))}, body...), 4); got != "\x40\x02\x00\x07" {
		t.Errorf("%s: PUBACK % x", id, got)
	}
}

// subscribed reports whether a filter is granted.
func subscribed(t *testing.T, c io.ReadWriter, filter string) bool {
	t.Helper()
	if got := exchange(t, c, login("s"), 4); got != "\x20\x02\x00\x00" {
		t.Fatalf("CONNACK % x", got)
	}
	body := "\x00\x01" + field(filter) + "\x01"
	got := exchange(t, c, append([]byte{0x82, byte(len(body))}, body...), 5)
	return got[4] == 1
}

// webSocket is a client's WebSocket as a stream of bytes.
type webSocket struct{ *websocket.Conn }

func (w webSocket) Write(p []byte) (int, error) {
	return len(p), w.WriteMessage(websocket.BinaryMessage, p)
}

func (w webSocket) Read(p []byte) (int, error) {
	_, r, err := w.NextReader() // a message is one packet here
	if err != nil {
		return 0, err
	}
	return r.Read(p)
}

func dialWS(t *testing.T, url string) io.ReadWriter {
	t.Helper()
	w := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	c, resp, err := w.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatalf("%v: %+v", err, resp)
	}
	t.Cleanup(func() { c.Close() })
	return webSocket{c}
}

func dialQUIC(t *testing.T, address string, conf *tls.Config) io.ReadWriter {
	t.Helper()
	conf.NextProtos = []string{"mqtt"}
	c, err := quic.DialAddr(t.Context(), address, conf, &quic.Config{HandshakeIdleTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseWithError(0, "") })
	s, err := c.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return s
}
