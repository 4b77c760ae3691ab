package listen

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	for _, tt := range []struct{ mode, want fs.FileMode }{{0, 0o660}, {0o600, 0o600}, {0o666, 0o666}} {
		l, err := Listen(t.Context(), Config{URL: "unix://" + path, Mode: tt.mode})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := l.(*net.UnixListener); !ok {
			t.Errorf("%T, want the bare listener", l)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != tt.want {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, tt.want)
		}
		c := dial(t, l)
		pass(t, c, accepted(t, l), "by file")
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	}
}

func TestUnixStale(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as a process that is killed leaves it
	_ = dead.Close()
	l := start(t, Config{URL: "unix://" + stale})
	c := dial(t, l)
	pass(t, c, accepted(t, l), "over the old one's grave")

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, err string }{
		{"has a listener", stale, "has a listener"},
		{"a file", file, "is no socket"},
		{"a link", link, "is no socket"},
		{"no folder", filepath.Join(dir, "none", "x.sock"), "make the folder first"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Listen(t.Context(), Config{URL: "unix://" + tt.path})
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	reach(t, l)
}

// reach wants a client served by a listener that others have tried whether it
// is alive: those come first and say nothing.
func reach(t *testing.T, l net.Listener) {
	t.Helper()
	if _, err := dial(t, l).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for {
		if n, err := accepted(t, l).Read(make([]byte, 1)); n == 1 {
			return
		} else if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

// TestUnixRace starts many at once on a stale socket: one gets it, and keeps
// it.
func TestUnixRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	const many = 16
	got := make(chan net.Listener, many)
	for range many {
		go func() {
			l, err := Listen(t.Context(), Config{URL: "unix://" + path})
			if err != nil {
				got <- nil
				return
			}
			got <- l
		}()
	}
	var won []net.Listener
	for range many {
		if l := <-got; l != nil {
			won = append(won, l)
			t.Cleanup(func() { _ = l.Close() })
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d of %d listen", len(won), many)
	}
	reach(t, won[0])
}

// TestUnixProxy requires a header of everybody on the socket.
func TestUnixProxy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	l := start(t, Config{URL: "unix://" + path, Proxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	c := dial(t, l)
	if _, err := c.Write(header(1, 0x21, v6)); err != nil {
		t.Fatal(err)
	}
	if p := peerOf(t, accepted(t, l)); p.String() != "unix://[2001:db8::9]:50000" {
		t.Errorf("peer %v", p)
	}
	c = dial(t, l)
	if _, err := c.Write([]byte("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")); err != nil {
		t.Fatal(err)
	}
	ended(t, c)
}
