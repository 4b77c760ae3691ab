package bridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/prometheus/client_golang/prometheus"
)

// TestFallback meets a remote that knows MQTT 3.1.1 alone.
func TestFallback(t *testing.T) {
	here, there := newMosquitto(t), newMosquitto(t)
	g := newGate(t, there.address())
	g.old.Store(true)
	cfg, deps := quick(here.address(), g.address(), Rule{Direction: Both, Filter: "#"})
	b := run(t, cfg, deps)
	if v := b.Status().Version; v != V311 {
		t.Errorf("speaks %s, want %s", v, V311)
	}
	l := newDevice(t, here.address(), "l", "", false)
	r := newDevice(t, there.address(), "r", "#", false)
	l.publish(&paho.Publish{Topic: "t", QoS: 2, Payload: []byte("0")})
	r.waitFor(1)
	g.mu.Lock()
	first := g.seen
	g.mu.Unlock()
	g.cut()
	until(t, "the next link", func() bool { return b.Status().Links == 2 && b.Status().State == Connected })
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen != first+2 {
		t.Errorf("%d connections for the second link, want one and its way on: what the remote does not know is asked once", g.seen-first)
	}
}

// TestShareInwards has two bridges take from one group at the remote while one
// of them goes away and comes back.
func TestShareInwards(t *testing.T) {
	here, there := newMosquitto(t), newMosquitto(t)
	var bridges []*running
	var again func() *running
	for _, node := range []string{"n1", "n2"} {
		cfg, deps := quick(here.address(), there.address(), Rule{Direction: In, Filter: "#"})
		cfg.Share, deps.Node = "farhop", node
		again = func() *running { return run(t, cfg, deps) }
		bridges = append(bridges, again())
	}
	l := newDevice(t, here.address(), "l", "#", false)
	r := newDevice(t, there.address(), "r", "", false)
	r.flood("t", 0, 300, 2)
	l.waitFor(300)
	bridges[1].stop()
	r.flood("t", 300, 300, 2) // a part of it waits in the session of the one away
	bridges[1] = again()
	l.waitFor(600)
	if n := distinct(l); n != 600 || len(l.payloads()) != 600 {
		t.Errorf("%d messages, %d different, want 600", len(l.payloads()), n)
	}
	if n := sum(bridges[0].Status().In.Forwarded); n == 0 || n == 600 {
		t.Errorf("one bridge of two carried %d of 600", n)
	}
}

// TestDoors connects by TLS with a client certificate and by WebSocket.
func TestDoors(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	tlsPort, wsPort := freePort(t), freePort(t)
	there := newMosquitto(t,
		fmt.Sprintf("listener %d 127.0.0.1", tlsPort), "cafile "+dir+"/ca.pem", "certfile "+dir+"/cert.pem", "keyfile "+dir+"/key.pem", "require_certificate true",
		fmt.Sprintf("listener %d 127.0.0.1", wsPort), "protocol websockets")
	here := newMosquitto(t)
	files := TLS{CA: dir + "/ca.pem", Cert: dir + "/cert.pem", Key: dir + "/key.pem", ServerName: "broker.test"}
	for i, c := range []struct {
		name, url string
		tls       TLS
		wrong     string
	}{
		{"mqtts", fmt.Sprintf("mqtts://127.0.0.1:%d", tlsPort), files, ""},
		{"ws", fmt.Sprintf("ws://127.0.0.1:%d/mqtt", wsPort), TLS{}, ""},
		{"mqtts without our certificate", fmt.Sprintf("mqtts://127.0.0.1:%d", tlsPort), TLS{CA: files.CA, ServerName: "broker.test"}, "remote"},
		{"mqtts to a stranger", fmt.Sprintf("mqtts://127.0.0.1:%d", tlsPort), TLS{CA: files.CA, ServerName: "other.test"}, "remote.tls"},
	} {
		t.Run(c.name, func(t *testing.T) {
			topic := fmt.Sprintf("t%d", i)
			cfg, deps := quick(here.address(), "", Rule{Direction: Out, Filter: topic})
			cfg.Remote.URL, cfg.Remote.TLS = c.url, c.tls
			cfg.Remote.ClientID, cfg.Local.ClientID = topic, topic
			if c.wrong != "" {
				b, err := New(cfg, deps)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := b.once(t.Context()); err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("error %v, want one of %s", err, c.wrong)
				}
				return
			}
			run(t, cfg, deps)
			l := newDevice(t, here.address(), "l"+topic, "", false)
			r := newDevice(t, there.address(), "r"+topic, topic, false)
			big := strings.Repeat("x", 300_000) // more than one WebSocket frame or TLS record
			l.publish(&paho.Publish{Topic: topic, QoS: 2, Payload: []byte(big)})
			r.waitFor(1)
			if got := string(r.received()[0].Payload); got != big {
				t.Errorf("%d bytes arrived, want %d", len(got), len(big))
			}
		})
	}
}

// certify writes an authority and one certificate for both ends.
func certify(t *testing.T, dir string) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(dir+"/"+name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	make := func(serial int64, sign *x509.Certificate, with *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("bridge test ", serial)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			DNSNames: []string{"broker.test"}, IsCA: sign == nil, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if sign == nil {
			sign, with, c.KeyUsage, c.ExtKeyUsage = c, key, x509.KeyUsageCertSign, nil
		}
		der, err := x509.CreateCertificate(rand.Reader, c, sign, key.Public(), with)
		if err != nil {
			t.Fatal(err)
		}
		return c, key, der
	}
	ca, caKey, der := make(1, nil, nil)
	write("ca.pem", "CERTIFICATE", der)
	_, key, der := make(2, ca, caKey)
	write("cert.pem", "CERTIFICATE", der)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("key.pem", "EC PRIVATE KEY", der)
}

// TestRefusals tells what is wrong with a remote, and what it will not take.
func TestRefusals(t *testing.T) {
	here := newMosquitto(t)
	t.Run("password", func(t *testing.T) {
		there := newMosquitto(t, "allow_anonymous false")
		cfg, deps := quick(here.address(), there.address(), Rule{Direction: Both, Filter: "#"})
		b, err := New(cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.once(t.Context()); err == nil || !strings.Contains(err.Error(), "not authorized") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("large and forbidden messages", func(t *testing.T) {
		there := newMosquitto(t, "max_packet_size 2000")
		there.stop(syscall.SIGTERM)
		there.write("acl", "topic readwrite ok/#\n")
		conf, _ := os.ReadFile(there.dir + "/mosquitto.conf")
		there.write("mosquitto.conf", string(conf)+"acl_file "+there.dir+"/acl\n")
		there.start()
		cfg, deps := quick(here.address(), there.address(), Rule{Direction: Out, Filter: "#"})
		b := run(t, cfg, deps)
		l := newDevice(t, here.address(), "l", "", false)
		r := newDevice(t, there.address(), "r", "ok/#", false)
		for qos := byte(1); qos < 3; qos++ {
			l.publish(&paho.Publish{Topic: "ok/x", QoS: qos, Payload: make([]byte, 3000)})
			l.publish(&paho.Publish{Topic: "no/x", QoS: qos, Payload: []byte("x")})
			l.publish(&paho.Publish{Topic: "ok/x", QoS: qos, Payload: fmt.Append(nil, qos-1)})
		}
		r.waitFor(2)
		r.mustBe(sequence(2))
		until(t, "all to be acknowledged", func() bool { return b.Status().Out.UnderWay == 0 })
		if s := b.Status(); s.Out.Dropped[causeTooLarge] != 2 || s.Out.Dropped[causeRefused] != 2 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestMetrics registers two bridges and reads what they count.
func TestMetrics(t *testing.T) {
	here, there := newMosquitto(t), newMosquitto(t)
	reg := prometheus.NewPedanticRegistry()
	for _, name := range []string{"one", "two"} {
		cfg, deps := quick(here.address(), there.address(), Rule{Direction: Both, Filter: name})
		cfg.Name, deps.Reg = name, reg
		run(t, cfg, deps)
	}
	l := newDevice(t, here.address(), "l", "", false)
	r := newDevice(t, there.address(), "r", "one", false)
	l.publish(&paho.Publish{Topic: "one", QoS: 1, Payload: []byte("12345")})
	r.waitFor(1)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, p := range m.GetLabel() {
				key += " " + p.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for key, want := range map[string]float64{
		"farhop_bridge_connected one": 1, "farhop_bridge_connected two": 1, "farhop_bridge_links_total two": 1,
		"farhop_bridge_forwarded_total one out 1": 1, "farhop_bridge_forwarded_total two out 1": 0,
		"farhop_bridge_forwarded_bytes_total one out": 5, "farhop_bridge_dropped_total one loop in": 0,
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", key, v, ok, want)
		}
	}
}
