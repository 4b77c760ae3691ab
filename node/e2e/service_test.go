//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/farhop/farhop/node/config"
)

// server is a TCP server that says its name and then echoes.
type server struct {
	name, address string
	ln            net.Listener
}

func serve(t *testing.T, name, address string) *server {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%-8s", name)
				_, _ = io.Copy(c, c) // until the client has said all
			}()
		}
	}()
	return &server{name, ln.Addr().String(), ln}
}

// dial connects to a listener of a service, and returns who answers.
func dial(t *testing.T, address string) (*net.TCPConn, string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	who, err := greeting(conn)
	if err != nil {
		t.Fatalf("service at %s: %v", address, err)
	}
	return conn.(*net.TCPConn), who
}

// greeting reads who answers.
func greeting(conn net.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	who := make([]byte, 8)
	_, err := io.ReadFull(conn, who)
	return string(bytes.TrimSpace(who)), err
}

// TestService reaches a TCP server of earth from luna, across the relay, and
// one of leo while earth's does not answer.
func TestService(t *testing.T) {
	full(t)
	m := newMesh(t)
	first, second := serve(t, "earth", "127.0.0.1:0"), serve(t, "leo", "127.0.0.1:0")
	listen := freePort(t)
	res := resources(t, fmt.Sprintf(`services:
- name: historian
  endpoints: [{node: earth-1, address: %q}, {node: relay, address: %q}]
  listen: [{node: luna-1, address: %q}]
routes:
- name: historian
  match: {service: historian}
  to: [earth, leo]
`, first.address, second.address, listen))
	for _, d := range []*daemon{m.earth, m.luna, m.relay} {
		d.stop()
		d.edit(func(c *config.Config) { c.Resources = res })
		d.run()
	}
	m.earth.linked(true, m.relay)
	m.luna.linked(true, m.relay)
	until(t, text("earth to be preferred"), func() bool {
		conn, who := dial(t, listen)
		conn.Close()
		return who == "earth"
	})

	conn, _ := dial(t, listen)
	said := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(said)
	go func() {
		_, _ = conn.Write(said) // the echo tells
		_ = conn.CloseWrite()
	}()
	heard, err := io.ReadAll(conn)
	if err != nil || sha256.Sum256(heard) != sha256.Sum256(said) {
		t.Errorf("2 MiB came back as %d bytes, %v", len(heard), err)
	}

	first.ln.Close()
	if _, who := dial(t, listen); who != "leo" {
		t.Errorf("%s answers while earth's server is away", who)
	}
	serve(t, "earth", first.address)
	until(t, text("earth to answer again"), func() bool {
		conn, who := dial(t, listen)
		conn.Close()
		return who == "earth"
	})
	m.toEarth.Cut(true)
	m.earth.kill()
	// One connection is on its way to earth when nobody knows yet that the way
	// is broken. It must not hang: no server has taken it.
	early, err := net.Dial("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	m.luna.reaches(m.earth, false)
	if _, who := dial(t, listen); who != "leo" {
		t.Errorf("%s answers while earth is known to be cut off", who)
	}
	if who, err := greeting(early); err != nil || who != "leo" {
		t.Errorf("a connection made just before gets the answer %q, %v; want leo's", who, err)
	}
}
