package near

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Addresses of the two ends: of the cable between their network namespaces
// (RFC 5737) and of the overlay, whose server is at the second.
const (
	nebulaWireA = "192.0.2.1"
	nebulaWireB = "192.0.2.2"
	nebulaA     = "10.77.0.1"
	nebulaB     = "10.77.0.2"
	nebulaPort  = "4242"
)

const nebulaConf = `pki: {ca: %[1]s/ca.crt, cert: %[1]s/%[2]s.crt, key: %[1]s/%[2]s.key}
static_host_map: {"%[3]s": ["%[4]s:4242"]}
lighthouse: {am_lighthouse: false, hosts: []}
listen: {host: 0.0.0.0, port: 4242}
tun: {dev: nebula1, mtu: 1300}
firewall:
  outbound: [{port: any, proto: any, host: any}]
  inbound: [{port: any, proto: any, host: any}]
logging: {level: warning, format: text}
`

// nebula starts two of them in network namespaces with a cable between; nil
// when there is none. The client and a server of its own run there too: what
// they use is the overlay.
func (b *bench) nebula(ctx context.Context) (*pair, error) {
	if b.Nebula == "" {
		return nil, nil
	}
	p := &pair{name: nameNebula}
	version, err := exec.CommandContext(ctx, b.Nebula, "-version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s -version: %w", b.Nebula, err)
	}
	p.version = strings.TrimSpace(strings.TrimPrefix(string(version), "Version:")) // empty where "go install" built it
	// Names must not meet those of another run.
	a, z := fmt.Sprintf("near-%d-a", os.Getpid()), fmt.Sprintf("near-%d-b", os.Getpid())
	if why := b.cable(ctx, a, z); why != nil {
		p.skipped = "it needs two network namespaces and TUN: " + why.Error()
		return p, nil
	}
	certs, err := b.folder(nameNebula)
	if err != nil {
		return nil, err
	}
	if err := b.nebulaCerts(ctx, certs); err != nil {
		return nil, err
	}
	for _, end := range []struct{ ns, name, other, at string }{{z, "b", nebulaA, nebulaWireA}, {a, "a", nebulaB, nebulaWireB}} {
		file := filepath.Join(certs, end.name+".yml")
		if err := os.WriteFile(file, fmt.Appendf(nil, nebulaConf, certs, end.name, end.other, end.at), 0o600); err != nil {
			return nil, err
		}
		prog, err := b.start(ctx, nameNebula, within(end.ns), b.Nebula, "-config", file)
		if err != nil {
			return nil, err
		}
		p.parts = append(p.parts, prog)
	}
	// The server takes its address as soon as the overlay has it.
	p.at, p.within = net.JoinHostPort(nebulaB, nebulaPort), within(a)
	for end := time.Now().Add(patience); ; {
		text, err := call(ctx, append(within(z), "ip", "-o", "addr", "show", "to", nebulaB)...)
		if err == nil && text != "" {
			break
		}
		if time.Now().After(end) || p.parts[0].Gone() || !pause(ctx, 50*time.Millisecond) {
			p.skipped = "it does not start: " + p.tails()
			return p, nil
		}
	}
	_, err = b.start(ctx, "server", append(within(z), b.Part...), partServer, p.at)
	return p, err
}

func within(ns string) []string { return []string{"ip", "netns", "exec", ns} }

// cable makes two namespaces with a virtual Ethernet between them, which are
// gone after the run.
func (b *bench) cable(ctx context.Context, a, z string) error {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return err
	}
	for _, ns := range []string{a, z} {
		if _, err := call(ctx, "ip", "netns", "add", ns); err != nil {
			return err
		}
		b.end = append(b.end, func() error {
			// Also after ctx ended.
			_, err := call(context.WithoutCancel(ctx), "ip", "netns", "del", ns)
			return err
		})
	}
	for _, words := range []string{
		"ip link add w0 netns " + a + " type veth peer name w0 netns " + z,
		"ip -n " + a + " addr add " + nebulaWireA + "/24 dev w0", "ip -n " + z + " addr add " + nebulaWireB + "/24 dev w0",
		"ip -n " + a + " link set w0 up", "ip -n " + z + " link set w0 up",
		"ip -n " + a + " link set lo up", "ip -n " + z + " link set lo up",
	} {
		if _, err := call(ctx, strings.Fields(words)...); err != nil {
			return err
		}
	}
	return nil
}

// nebulaCerts makes an authority and a certificate for each end.
func (b *bench) nebulaCerts(ctx context.Context, dir string) error {
	program := b.Nebula + "-cert"
	at := func(name string) string { return filepath.Join(dir, name) }
	if _, err := call(ctx, program, "ca", "-name", "near", "-out-crt", at("ca.crt"), "-out-key", at("ca.key")); err != nil {
		return err
	}
	for name, ip := range map[string]string{"a": nebulaA, "b": nebulaB} {
		_, err := call(ctx, program, "sign", "-ca-crt", at("ca.crt"), "-ca-key", at("ca.key"),
			"-name", name, "-ip", ip+"/24", "-out-crt", at(name+".crt"), "-out-key", at(name+".key"))
		if err != nil {
			return err
		}
	}
	return nil
}
