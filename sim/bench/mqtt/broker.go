package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
)

// patience bounds every wait for a program on this machine.
const patience = 2 * time.Minute

// broker is a program under test in one setting.
type broker struct {
	name    string
	program string
	// prepare makes what the broker needs in an empty folder and returns the
	// arguments with which it listens at addr.
	prepare func(ctx context.Context, dir, addr string) (args []string, err error)
}

// node is a farhop as "farhop init" makes it, with room for all clients.
func node(program string) broker { return nodeAt(program, "127.0.0.1:0", nil) }

// nodeAt is node with the address of its API, and with what edit, which may be
// nil, changes of its configuration.
func nodeAt(program, admin string, edit func(*config.Config)) broker {
	return broker{name: "farhop", program: program, prepare: func(ctx context.Context, dir, addr string) ([]string, error) {
		mesh, err := proc.FreeAddr()
		if err != nil {
			return nil, err
		}
		data := filepath.Join(dir, "data")
		if _, err := call(ctx, program, "init", "--region", "bench", "--name", "bench", "--dir", data,
			"--mqtt", addr, "--mesh", mesh, "--admin", admin); err != nil {
			return nil, err
		}
		return []string{"run", "--dir", data}, configure(data, func(c *config.Config) {
			c.MQTT.MaxClients = maxIdle
			if edit != nil {
				edit(c)
			}
		})
	}}
}

// configure edits the configuration of a node.
func configure(data string, edit func(*config.Config)) error {
	path := filepath.Join(data, config.FileName)
	c, err := config.Load(path)
	if err == nil {
		edit(&c)
		err = config.Save(path, c)
	}
	if err != nil {
		return fmt.Errorf("configure %s: %w", data, err)
	}
	return nil
}

// fair is the setting in which Mosquitto is measured: nothing on a disk, no
// log, and no limits that would have it drop messages. set_tcp_nodelay stays
// off, as it is by default: it writes each packet apart, and with it on it
// needs up to twice the time for a message and does half as many.
func fair() []string {
	return []string{"persistence false", "max_queued_messages 0", "max_inflight_messages 0"}
}

// mosquitto is Mosquitto with a setting.
func mosquitto(program string, setting ...string) broker {
	return broker{name: "mosquitto", program: program, prepare: func(_ context.Context, dir, addr string) ([]string, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		lines := append([]string{"listener " + port + " " + host, "allow_anonymous true", "log_dest stderr", "log_type error", "connection_messages false"}, setting...)
		if os.Geteuid() == 0 {
			lines = append(lines, "user root") // it could not read the folder as another user
		}
		path := filepath.Join(dir, "mosquitto.conf")
		return []string{"-c", path}, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	}}
}

// call runs a program to its end and returns what it printed.
func call(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := exec.CommandContext(ctx, program, args...).Output()
	if x := (*exec.ExitError)(nil); errors.As(err, &x) {
		return "", fmt.Errorf("%s %s: %w\n%s", program, args[0], err, x.Stderr)
	}
	return strings.TrimSpace(string(text)), err
}

// process is a running broker with its own folder.
type process struct {
	proc.Program
	b    broker
	addr string
}

// launch makes a fresh broker below dir and starts it. stop must follow.
func launch(ctx context.Context, b broker, dir string) (*process, error) {
	p, err := prepare(ctx, b, dir)
	if err == nil {
		err = p.start(ctx)
	}
	if err != nil && p != nil {
		err = errors.Join(err, p.Stop())
	}
	return p, err
}

// prepare makes a broker that does not run yet.
func prepare(ctx context.Context, b broker, dir string) (*process, error) {
	p := &process{b: b, Program: proc.Program{Path: b.program}}
	var err error
	if p.Dir, err = os.MkdirTemp(dir, b.name+"-"); err != nil {
		return nil, err
	}
	if p.addr, err = proc.FreeAddr(); err == nil {
		p.Args, err = b.prepare(ctx, p.Dir, p.addr)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make %s: %w", b.name, err), p.Stop())
	}
	return p, nil
}

// start runs the program and waits until it takes clients.
func (p *process) start(ctx context.Context) error {
	if err := p.Begin(ctx); err != nil {
		return fmt.Errorf("start %s: %w", p.b.name, err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := load.Probe(ctx, p.addr)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) || p.Gone() {
			return fmt.Errorf("start %s: it does not take clients: %w\n%s", p.b.name, err, p.Tail())
		}
	}
}
