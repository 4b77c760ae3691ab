package bridge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// patience is how long a test waits for what must come; it is never waited
// for in full unless the test fails.
const (
	patience         = 30 * time.Second
	installMosquitto = "install the broker: apt-get install mosquitto"
)

// mosquitto is a broker in a process of its own.
type mosquitto struct {
	t    *testing.T
	dir  string
	port int
	cmd  *exec.Cmd
}

// program finds one that the test needs, or skips the test.
func program(t *testing.T, name, how string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("FARHOP_E2E") == "require" {
		t.Fatalf("%s is missing: %s", name, how)
	}
	t.Skipf("%s is missing: %s", name, how)
	return ""
}

// freePort finds a port nobody listens on, and that no connection takes while
// its broker is down.
func freePort(t *testing.T) int {
	t.Helper()
	a, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return int(netip.MustParseAddrPort(a).Port())
}

// newMosquitto starts a broker that keeps its sessions over restarts. extra
// lines are added to its configuration.
func newMosquitto(t *testing.T, extra ...string) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, dir: t.TempDir(), port: freePort(t)}
	lines := append([]string{
		"user root", "persistence true", "persistence_location " + m.dir + "/",
		"allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true", "sys_interval 0",
		fmt.Sprintf("listener %d 127.0.0.1", m.port),
	}, extra...)
	m.write("mosquitto.conf", strings.Join(lines, "\n")+"\n")
	m.start()
	t.Cleanup(func() { m.stop(syscall.SIGKILL) })
	return m
}

func (m *mosquitto) write(name, text string) string {
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	return path
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.spawn(program(m.t, "mosquitto", installMosquitto), "-c", filepath.Join(m.dir, "mosquitto.conf"))
}

// spawn runs a broker and waits until it listens.
func (m *mosquitto) spawn(path string, args ...string) {
	m.t.Helper()
	m.cmd = exec.Command(path, args...)
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	until(m.t, "mosquitto to listen", func() bool {
		c, err := net.Dial("tcp", m.address())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// stop ends the process. SIGTERM lets it write its sessions to disk.
func (m *mosquitto) stop(sig syscall.Signal) {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(sig)
	_ = m.cmd.Wait()
	m.cmd = nil
}

func (m *mosquitto) address() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

// gate is a relay between the bridge and a broker that a test can cut, and
// that can play a broker which does not know MQTT 5.
type gate struct {
	l   net.Listener
	to  string
	old atomic.Bool // answers MQTT 5 as MQTT 3.1.1 demands, [MQTT-3.1.2-2]

	mu    sync.Mutex
	conns map[net.Conn]bool
	shut  bool
	seen  int // connections
	wg    sync.WaitGroup
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{l: l, to: to, conns: make(map[net.Conn]bool)}
	g.wg.Go(g.serve)
	t.Cleanup(func() {
		l.Close()
		g.cut()
		g.wg.Wait()
	})
	return g
}

func (g *gate) serve() {
	for {
		c, err := g.l.Accept()
		if err != nil {
			return
		}
		g.wg.Go(func() { g.relay(c) })
	}
}

func (g *gate) relay(c net.Conn) {
	defer c.Close()
	if !g.add(c) {
		return
	}
	if g.old.Load() {
		head := make([]byte, 9) // type, length of one byte, "MQTT", level
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		if head[8] == 5 {
			_, _ = c.Write([]byte{0x20, 2, 0, 1})
			return
		}
		up, err := net.Dial("tcp", g.to)
		if err != nil || !g.add(up) {
			return
		}
		_, _ = up.Write(head)
		g.pipe(c, up)
		return
	}
	up, err := net.Dial("tcp", g.to)
	if err != nil || !g.add(up) {
		return
	}
	g.pipe(c, up)
}

func (g *gate) pipe(a, b net.Conn) {
	defer b.Close()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(b, a); a.Close(); b.Close() })
	wg.Go(func() { _, _ = io.Copy(a, b); a.Close(); b.Close() })
	wg.Wait()
}

func (g *gate) add(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		c.Close()
		return false
	}
	g.conns[c] = true
	g.seen++
	return true
}

// cut breaks all connections, with what is in their buffers.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	clear(g.conns)
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	if shut {
		g.cut()
	}
}

// shut shuts gates, all before any breaks its connections: who loses one finds
// none open.
func shut(gates ...*gate) {
	for _, g := range gates {
		g.mu.Lock()
		g.shut = true
		g.mu.Unlock()
	}
	for _, g := range gates {
		g.cut()
	}
}

func (g *gate) address() string { return g.l.Addr().String() }

// quick is a configuration for tests between two addresses.
func quick(loc, rem string, rules ...Rule) (Config, Deps) {
	cfg := Config{
		Name: "test", Domain: "here", Rules: rules,
		Remote:   Remote{URL: "mqtt://" + rem, Domain: "there"},
		RetryMax: 100 * time.Millisecond,
	}
	deps := Deps{
		Local: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", loc)
		},
	}
	return cfg, deps
}

// running is a bridge that a test runs.
type running struct {
	*Bridge
	stop func()
}

// run starts a bridge and waits until it is connected.
func run(t *testing.T, cfg Config, deps Deps) *running {
	t.Helper()
	b := launch(t, cfg, deps)
	until(t, "the bridge to connect", func() bool { return b.Status().State == Connected })
	return b
}

// launch starts a bridge.
func launch(t *testing.T, cfg Config, deps Deps) *running {
	t.Helper()
	if testing.Verbose() {
		deps.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("test", cfg.Local.ClientID)
	}
	b, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return &running{b, stop}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}
