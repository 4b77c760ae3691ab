package listen

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMosquittoPub has Mosquitto's client publish through the listeners it
// can use.
func TestMosquittoPub(t *testing.T) {
	path, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatal("mosquitto_pub is not installed: no client of others comes in by these listeners")
		}
		t.Skip("no client of others comes in by these listeners: install it (Debian: apt-get install mosquitto-clients)")
	}
	a := newAuthority(t)
	cert, key, names := a.device()
	sock := filepath.Join(t.TempDir(), "mqtt.sock")
	for _, tt := range []struct {
		name  string
		cfg   Config
		args  []string
		names []string
	}{
		{"tls", Config{URL: "tls://127.0.0.1:0", TLS: a.server(false)}, []string{"--cafile", a.ca}, nil},
		{"tls with certificate", Config{URL: "tls://127.0.0.1:0", TLS: a.server(true)}, []string{"--cafile", a.ca, "--cert", cert, "--key", key}, names},
		{"tls 1.2 with ALPN", Config{URL: "tls://127.0.0.1:0", TLS: a.server(false)}, []string{"--cafile", a.ca, "--tls-version", "tlsv1.2", "--tls-alpn", "mqtt"}, nil},
		{"unix", Config{URL: "unix://" + sock}, []string{"--unix", sock}, nil},
		{"beside proxies", Config{URL: "tcp://127.0.0.1:0", Proxy: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := start(t, tt.cfg)
			args := append([]string{"-t", "plant/1/temp", "-m", "21.5", "-q", "0"}, tt.args...)
			if host, port, ok := strings.Cut(l.Addr().String(), ":"); ok {
				args = append(args, "-h", host, "-p", port)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, path, args...)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s := accepted(t, l)
			got, err := serveMQTT(s)
			if !bytes.Contains(got, []byte("plant/1/temp21.5")) {
				t.Errorf("read %q, %v", got, err)
			}
			if p, ok := s.(Peered); ok && !slices.Equal(p.Peer().Names, tt.names) {
				t.Errorf("names %q, want %q", p.Peer().Names, tt.names)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("mosquitto_pub: %v\n%s", err, out.String())
			}
		})
	}
}
