//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/bench/proc"
)

// daemon is a node: its data directory and, while it runs, its process.
type daemon struct {
	t                 *testing.T
	name, dir         string
	mqtt, mesh, admin string   // HOST:PORT
	prefix            []string // what runs the binary: the binary alone, or an emulator before it
	logs              string   // file that all its processes write to
	runArgs           []string // flags of farhop run

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	err   error         // then, as Wait said
}

// newDaemon chooses a directory and free ports. Nothing is made yet.
func newDaemon(t *testing.T, name string) *daemon {
	t.Helper()
	base := t.TempDir()
	d := &daemon{
		t: t, name: name, dir: filepath.Join(base, name), prefix: []string{env.farhop}, logs: filepath.Join(base, name+".log"),
		mqtt: freePort(t), mesh: freePort(t), admin: freePort(t),
	}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, tail(d.logs, 60))
		}
	})
	return d
}

// freePort finds a port that is free for UDP and TCP, and still is after a
// restart.
func freePort(t *testing.T) string {
	t.Helper()
	a, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try runs a farhop command to its end.
func (d *daemon) try(stdin string, args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	args = append(append([]string{}, d.prefix[1:]...), args...)
	cmd := exec.CommandContext(ctx, d.prefix[0], append(args, "--dir", d.dir)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if x := (*exec.ExitError)(nil); err != nil && !errors.As(err, &x) || ctx.Err() != nil {
		d.t.Fatalf("farhop %v: %v %v\n%s", args, err, ctx.Err(), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// do runs a farhop command that must work and returns its output.
func (d *daemon) do(args ...string) string {
	d.t.Helper()
	stdout, stderr, code := d.try("", args...)
	if code != 0 {
		d.t.Fatalf("farhop %v at %s: exit code %d\n%s%s", args, d.name, code, stdout, stderr)
	}
	return stdout
}

func (d *daemon) listen() []string {
	return []string{"--name", d.name, "--mqtt", d.mqtt, "--mesh", d.mesh, "--admin", d.admin}
}

func (d *daemon) init(region string) {
	d.t.Helper()
	d.do(append([]string{"init", "--region", region}, d.listen()...)...)
}

// invite returns a ticket that names the address advertised.
func (d *daemon) invite(region, advertise string) string {
	d.t.Helper()
	lines := strings.Fields(d.do("invite", "--region", region, "--advertise", advertise))
	if len(lines) != 1 {
		d.t.Fatalf("invite printed %q, want a ticket alone", lines)
	}
	return lines[0]
}

func (d *daemon) join(ticket string, more ...string) {
	d.t.Helper()
	d.do(append(append([]string{"join", ticket}, d.listen()...), more...)...)
}

// edit changes the node's farhop.yaml.
func (d *daemon) edit(change func(*config.Config)) {
	d.t.Helper()
	path := filepath.Join(d.dir, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		d.t.Fatal(err)
	}
	change(&c)
	if err := os.WriteFile(path, config.Render(c), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// run starts the daemon and waits until it is ready.
func (d *daemon) run() {
	d.t.Helper()
	d.launch()
	until(d.t, func() string { return d.name + " to be ready:\n" + tail(d.logs, 20) }, func() bool {
		select {
		case <-d.ended:
			d.t.Fatalf("%s ended: %v\n%s", d.name, d.err, tail(d.logs, 20))
		default:
		}
		code, _ := d.get("/readyz")
		return code == 200
	})
}

// launch starts the daemon and does not wait for it.
func (d *daemon) launch() {
	d.t.Helper()
	f, err := os.OpenFile(d.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	d.cmd = exec.Command(d.prefix[0], slices.Concat(d.prefix[1:], []string{"run", "--dir", d.dir}, d.runArgs)...)
	d.cmd.Stdout, d.cmd.Stderr = f, f
	if err := start(d.cmd); err != nil {
		d.t.Fatal(err)
	}
	cmd, ended := d.cmd, make(chan struct{})
	d.ended = ended
	go func() { d.err = cmd.Wait(); close(ended) }()
}

// kill ends the daemon as a power cut does.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // it may have ended by itself
	<-d.ended
}

// stop ends the daemon as systemd does, and checks that it ended well.
func (d *daemon) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatalf("stop %s: %v", d.name, err)
	}
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.t.Fatalf("%s did not end on SIGTERM in %s", d.name, patience)
	}
	if d.err != nil {
		d.t.Errorf("%s ended with %v on SIGTERM", d.name, d.err)
	}
}

// status asks the running daemon; the zero Status when it does not answer.
func (d *daemon) status() admin.Status {
	s, _ := ask(d, (*admin.Client).Status)
	return s
}

// ask makes one call to the running daemon.
func ask[T any](d *daemon, call func(*admin.Client, context.Context) (T, error)) (T, error) {
	c, err := admin.Dial(d.dir)
	if err != nil {
		var none T
		return none, err
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	return call(c, ctx)
}

// wait waits until the status of the daemon is as it should be.
func (d *daemon) wait(what string, ok func(admin.Status) bool) {
	d.t.Helper()
	var last admin.Status
	until(d.t, func() string {
		return fmt.Sprintf("%s at %s; peers %+v, queues %+v, counters %+v", what, d.name, last.Peers, last.Queues, last.Counters)
	}, func() bool {
		last = d.status()
		return !last.Node.IsZero() && ok(last)
	})
}

// linked waits until a link to each of the peers is up, or until none is.
func (d *daemon) linked(up bool, peers ...*daemon) {
	d.t.Helper()
	for _, p := range peers {
		d.wait(fmt.Sprintf("link to %s to be up: %t", p.name, up), func(s admin.Status) bool {
			for _, q := range s.Peers {
				if q.Node.String() == p.name && q.State == admin.PeerUp {
					return up
				}
			}
			return !up
		})
	}
}

// knows waits until the node has heard that somebody at peer wants filter.
func (d *daemon) knows(peer *daemon, filter string) {
	d.t.Helper()
	d.knowsBy(func(node string) bool { return node == peer.name }, filter)
}

// knowsBy is knows for any node that is meant.
func (d *daemon) knowsBy(meant func(node string) bool, filter string) {
	d.t.Helper()
	until(d.t, text(d.name+" to know of interest in "+filter), func() bool {
		nodes, _ := ask(d, (*admin.Client).Nodes)
		for _, n := range nodes {
			if meant(n.Node.String()) && slices.Contains(n.Interest, filter) {
				return true
			}
		}
		return false
	})
}

// reaches waits until the node believes that the way to peer is up, or not.
func (d *daemon) reaches(peer *daemon, up bool) {
	d.t.Helper()
	until(d.t, text(fmt.Sprintf("%s to know that the way to %s is up: %t", d.name, peer.name, up)), func() bool {
		nodes, _ := ask(d, (*admin.Client).Nodes)
		for _, n := range nodes {
			if n.Node.String() == peer.name {
				return n.Up == up
			}
		}
		return false
	})
}

// empty waits until nothing is kept for anybody.
func (d *daemon) empty() {
	d.t.Helper()
	d.wait("an empty store", func(s admin.Status) bool { return s.Store.Messages == 0 && len(s.Queues) == 0 })
}

// tail returns the last lines of a file.
func tail(file string, n int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// logged reports whether a line of the daemon's log holds all words.
func (d *daemon) logged(words ...string) bool {
	data, _ := os.ReadFile(d.logs)
	for line := range strings.SplitSeq(string(data), "\n") {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

// memory is the resident memory of the daemon, in kB.
func (d *daemon) memory(t *testing.T) (kb int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
