package dtn

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// program returns a path from the environment; docs/dtn-interop.md says how to
// get what belongs there.
func program(t *testing.T, env string) string {
	t.Helper()
	p := os.Getenv(env)
	if p == "" {
		t.Skipf("SKIPPED: %s is not set, so nothing was proved about this peer; see docs/dtn-interop.md", env)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s: %v", env, err)
	}
	return p
}

// run starts a program until the test ends; its output is shown when it fails.
func run(t *testing.T, dir string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		late := time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
		_ = out.Close()
		if t.Failed() {
			log, _ := os.ReadFile(out.Name())
			t.Logf("%s said:\n%s", argv[0], log[max(0, len(log)-8000):])
		}
	})
}

// freePort finds a port that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// rest talks to dtn7's application interface.
func rest(t *testing.T, port int, path string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/rest/%s", port, path), "application/json", bytes.NewReader(body))
		if err != nil {
			if time.Now().After(limit) {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
		return
	}
}

// dtn7 starts a dtnd that listens for TCPCL and MTCP and dials peers.
func dtn7(t *testing.T, peers string) (web, tcpcl, mtcp int) {
	t.Helper()
	dtnd := program(t, "FARHOP_DTN7")
	dir := t.TempDir()
	web, tcpcl, mtcp = freePort(t), freePort(t), freePort(t)
	conf := fmt.Sprintf(`
[core]
store = "store"
inspect-all-bundles = true
node-id = "dtn://dtn7/"
[logging]
level = "debug"
[discovery]
ipv4 = false
ipv6 = false
[agents.webserver]
address = "127.0.0.1:%d"
rest = true
[routing]
algorithm = "epidemic"
[[listen]]
protocol = "tcpclv4"
endpoint = "127.0.0.1:%d"
[[listen]]
protocol = "mtcp"
endpoint = "127.0.0.1:%d"
%s`, web, tcpcl, mtcp, peers)
	if err := os.WriteFile(filepath.Join(dir, "conf.toml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, dtnd, "conf.toml")
	return web, tcpcl, mtcp
}

// payload makes n bytes that no codec mistakes for text.
func payload(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// TestDTN7 exchanges bundles with dtn7-gold over TCPCL, both ways on one
// session, and over MTCP, which needs a connection for each way.
func TestDTN7(t *testing.T) {
	program(t, "FARHOP_DTN7")
	for _, kind := range []Kind{TCPCL, MTCP} {
		t.Run(string(kind), func(t *testing.T) {
			s := newSink()
			mine := freePort(t)
			peers := ""
			if kind == MTCP {
				peers = fmt.Sprintf("[[peer]]\nnode = \"dtn://farhop/\"\nprotocol = \"mtcp\"\nendpoint = \"127.0.0.1:%d\"\n", mine)
			}
			cfg := Config{Node: eid(t, "dtn://farhop/"), Sink: s, Peers: []Peer{{Name: "dtn7", Kind: kind, TLS: TLSNone, OneSegment: true}}}
			if kind == MTCP {
				cfg.Listeners = []Listener{{Kind: MTCP, Address: fmt.Sprintf("127.0.0.1:%d", mine), Peer: "dtn7"}}
			}
			web, tcpcl, mtcp := dtn7(t, peers)
			cfg.Peers[0].Address = fmt.Sprintf("127.0.0.1:%d", map[Kind]int{TCPCL: tcpcl, MTCP: mtcp}[kind])
			var reg struct{ Error, UUID string }
			rest(t, web, "register", map[string]string{"endpoint_id": "dtn://dtn7/inbox"}, &reg)
			if reg.Error != "" {
				t.Fatal(reg.Error)
			}
			a, _ := start(t, cfg)
			s.until(t, "the session", func() bool { return s.up["dtn7"] == 1 })
			t.Logf("%+v", a.Peers()[0])
			toDTN7(t, a, web, reg.UUID)

			large := strings.Repeat("from dtn7 ", 30_000)
			var built struct{ Error string }
			rest(t, web, "build", map[string]any{"uuid": reg.UUID, "arguments": map[string]any{
				"destination": "dtn://farhop/mqtt/hello", "source": "dtn://dtn7/inbox", "creation_timestamp_now": 1, "lifetime": "1h", "payload_block": large,
			}}, &built)
			if built.Error != "" {
				t.Fatal(built.Error)
			}
			found := func() bool {
				for _, r := range s.got {
					v, err := bundle.Parse(r.Bundle)
					if err == nil && string(v.Payload.Data) == large && v.Primary.Dest.String() == "dtn://farhop/mqtt/hello" {
						return true
					}
				}
				return false
			}
			s.until(t, "dtn7's bundle", found)
		})
	}
}

// toDTN7 sends bundles of several sizes and fetches them from the application
// at the other side.
func toDTN7(t *testing.T, a *Door, web int, uuid string) {
	want := map[string]bool{}
	for i, n := range []int{1, 1000, 1_000_000} {
		data := payload(n)
		want[base64.StdEncoding.EncodeToString(data)] = true
		raw := makeBundle(t, "dtn://farhop/test", "dtn://dtn7/inbox", uint64(i), data)
		if err := a.Send(t.Context(), "dtn7", [][]byte{raw}); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	type block struct {
		Number int             `json:"blockNumber"`
		Type   json.RawMessage `json:"blockType"`
		Code   int             `json:"blockTypeCode"`
		Data   any             `json:"data"`
	}
	for limit := time.Now().Add(20 * time.Second); len(want) > 0; time.Sleep(50 * time.Millisecond) {
		var got struct {
			Error   string
			Bundles []struct {
				Blocks []block `json:"canonicalBlocks"`
			}
		}
		rest(t, web, "fetch", map[string]string{"uuid": uuid}, &got)
		for _, b := range got.Bundles {
			for _, c := range b.Blocks {
				if s, ok := c.Data.(string); ok {
					delete(want, s)
				}
			}
		}
		if time.Now().After(limit) {
			t.Fatalf("%d of the bundles did not reach dtn7's application", len(want))
		}
	}
}

// agentDriver plays the application of the demo agent: it sends every file of
// one folder once, and writes what arrives into another.
const agentDriver = `
import os, sys
from dbus.mainloop.glib import DBusGMainLoop
DBusGMainLoop(set_as_default=True)
from gi.repository import GLib
import logging
logging.basicConfig(level=logging.INFO)
from tcpcl.config import Config, ListenConfig, ConnectConfig
from tcpcl.agent import Agent
mode, port, outbox, inbox, ca, cert = sys.argv[1:7]
c = Config()
c.node_id = 'dtn://demo/'
c.keepalive_time = 2
c.tls_enable = bool(ca)
if ca:
    c.tls_ca_file, c.tls_cert_file, c.tls_key_file = ca, cert, cert
    c.require_tls = True
    c.require_node_authn = True
if mode == 'listen':
    c.init_listen.append(ListenConfig('127.0.0.1', int(port)))
else:
    c.init_connect.append(ConnectConfig('127.0.0.1', int(port)))
agent = Agent(c)
sent, got = set(), [0]
def turn():
    for h in list(agent._handlers):
        if h.get_session_state() != 'established':
            continue
        for f in sorted(os.listdir(outbox)):
            if f not in sent:
                sent.add(f)
                h.send_bundle_file(os.path.join(outbox, f))
        for bid in h.recv_bundle_get_queue():
            name = os.path.join(inbox, '%06d' % got[0])
            got[0] += 1
            h.recv_bundle_pop_file(str(bid), name + '.part')
            os.rename(name + '.part', name)
    return True
GLib.timeout_add(20, turn)
agent.exec_loop()
`

// TestDemoAgent exchanges bundles with the agent of the author of RFC 9174:
// each end dials once, with TLS and without.
func TestDemoAgent(t *testing.T) {
	src := program(t, "FARHOP_DTNDEMO")
	for _, c := range []struct {
		name    string
		weDial  bool
		withTLS bool
	}{{"we dial", true, false}, {"it dials", false, false}, {"we dial, TLS", true, true}, {"it dials, TLS", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			outbox, inbox := filepath.Join(dir, "out"), filepath.Join(dir, "in")
			for _, d := range []string{outbox, inbox} {
				if err := os.Mkdir(d, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			back := makeBundle(t, "dtn://demo/x", "dtn://farhop/y", 1, payload(200_000))
			if err := os.WriteFile(filepath.Join(outbox, "1"), back, 0o600); err != nil {
				t.Fatal(err)
			}
			var own *tls.Config
			policy, ca, cert := TLSNone, "", ""
			if c.withTLS {
				policy = TLSRequired
				own, ca, cert = demoTLS(t, dir)
			}
			s := newSink()
			cfg := Config{
				Node: eid(t, "dtn://farhop/"), Sink: s, TLS: own,
				Peers: []Peer{{Name: "demo", Kind: TCPCL, Node: eid(t, "dtn://demo/"), TLS: policy}},
			}
			port, mode := freePort(t), "listen"
			if c.weDial {
				cfg.Peers[0].Address = fmt.Sprintf("127.0.0.1:%d", port)
			} else {
				mode = "connect"
				cfg.Listeners = []Listener{{Kind: TCPCL, Address: fmt.Sprintf("127.0.0.1:%d", port), TLS: policy}}
			}
			a, _ := start(t, cfg)
			python := os.Getenv("FARHOP_PYTHON")
			if python == "" {
				python = "python3"
			}
			t.Setenv("PYTHONPATH", src)
			run(t, dir, "dbus-run-session", "--", python, "-c", agentDriver, mode, fmt.Sprint(port), outbox, inbox, ca, cert)
			s.until(t, "the session", func() bool { return s.up["demo"] == 1 })
			t.Logf("%+v", a.Peers()[0])
			var want [][]byte
			for i, n := range []int{1, 1000, 1 << 20} {
				want = append(want, makeBundle(t, "dtn://farhop/y", "dtn://demo/x", uint64(i), payload(n)))
				if err := a.Send(t.Context(), "demo", [][]byte{want[i]}); err != nil {
					t.Fatal(err)
				}
			}
			s.until(t, "the agent's bundle", func() bool { return len(s.got) == 1 })
			s.wantSame(t, back)
			if s.first().Authenticated != c.withTLS {
				t.Error("the node id was not proved by TLS")
			}
			s.until(t, "the files", func() bool {
				l, _ := os.ReadDir(inbox)
				return len(l) == len(want) && !strings.HasSuffix(l[len(l)-1].Name(), "part")
			})
			for i, w := range want {
				if got, _ := os.ReadFile(filepath.Join(inbox, fmt.Sprintf("%06d", i))); !bytes.Equal(got, w) {
					t.Errorf("bundle %d arrived as %d other bytes", i, len(got))
				}
			}
		})
	}
}

// demoTLS makes our TLS, and the agent's as files.
func demoTLS(t *testing.T, dir string) (own *tls.Config, ca, cert string) {
	authority := newAuthority(t)
	// OpenSSL wants the usages of TLS beside that of RFC 9174.
	usages := []asn1.ObjectIdentifier{oidBundleSecurity, {1, 3, 6, 1, 5, 5, 7, 3, 1}, {1, 3, 6, 1, 5, 5, 7, 3, 2}}
	theirs := authority.tls(t, []string{"dtn://demo/"}, nil, usages...).Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(theirs.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca, cert = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")
	both := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: theirs.Certificate[0]})
	both = append(both, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	for name, data := range map[string][]byte{cert: both, ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.cert.Raw})} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return authority.tls(t, []string{"dtn://farhop/"}, nil, usages...), ca, cert
}
