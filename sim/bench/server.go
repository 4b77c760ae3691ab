package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// server is a program under test.
type server struct {
	name    string
	setting string // what was chosen in its configuration
	promise string // what its PUBACK means
	program string

	// prepare makes what the server needs in an empty folder and returns the
	// arguments with which it runs there.
	prepare func(ctx context.Context, dir, addr string) (args []string, err error)
}

// node is a farhop as "farhop init" makes it.
func node(program string) server {
	return server{
		name: "farhop", setting: "defaults", program: program,
		promise: "PUBACK after fdatasync",
		prepare: func(ctx context.Context, dir, addr string) ([]string, error) {
			mesh, err := proc.FreeAddr()
			if err != nil {
				return nil, err
			}
			admin, err := proc.FreeAddr()
			if err != nil {
				return nil, err
			}
			data := filepath.Join(dir, "data")
			text, err := exec.CommandContext(ctx, program, "init", "--region", "bench", "--name", "bench", "--dir", data,
				"--mqtt", addr, "--mesh", mesh, "--admin", admin).CombinedOutput()
			if err != nil {
				return nil, fmt.Errorf("%s init: %w\n%s", program, err, text)
			}
			return []string{"run", "--dir", data}, nil
		},
	}
}

// mosquitto is Mosquitto with persistence. Its queue and window limits are
// lifted: by default it drops what is beyond 1,000 messages of a session.
func mosquitto(program, setting, promise, autosave string) server {
	return server{
		name: "mosquitto", setting: setting, program: program, promise: promise,
		prepare: func(_ context.Context, dir, addr string) ([]string, error) {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			data := filepath.Join(dir, "data")
			if err := os.Mkdir(data, 0o700); err != nil {
				return nil, err
			}
			lines := []string{
				"listener " + port + " " + host, "allow_anonymous true", "log_type error", "persistence true",
				"persistence_location " + data + "/", "max_queued_messages 0", "max_inflight_messages 0", autosave,
			}
			if os.Geteuid() == 0 {
				lines = append(lines, "user root") // it could not read the folder as another user
			}
			conf := filepath.Join(dir, "mosquitto.conf")
			return []string{"-c", conf}, os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
		},
	}
}

// servers are all that take part.
func (c Config) servers() []server {
	out := []server{node(c.Farhop)}
	if c.Mosquitto != "" {
		out = append(out,
			mosquitto(c.Mosquitto, "persistence, autosave on every change",
				"PUBACK before the disk; the whole database is written again after each turn of its loop", "autosave_on_changes true\nautosave_interval 1"),
			mosquitto(c.Mosquitto, "persistence, defaults",
				"PUBACK before the disk; the database is written every 30 minutes", "autosave_interval 1800"))
	}
	return out
}

// process is a running server with its own folder.
type process struct {
	proc.Program
	s    server
	addr string
}

// launch makes a fresh server below dir and starts it. stop must follow.
func launch(ctx context.Context, s server, dir string) (*process, error) {
	p := &process{s: s, Program: proc.Program{Path: s.program}}
	var err error
	if p.Dir, err = os.MkdirTemp(dir, s.name+"-"); err != nil {
		return nil, err
	}
	if p.addr, err = proc.FreeAddr(); err == nil {
		p.Args, err = s.prepare(ctx, p.Dir, p.addr)
	}
	if err == nil {
		err = p.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.name, err), p.Stop())
	}
	return p, nil
}

// start runs the program and waits until it takes clients.
func (p *process) start(ctx context.Context) error {
	if err := p.Begin(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		c, err := dial(ctx, p.addr, "bench-probe", true)
		if err == nil {
			return c.leave()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) || p.Gone() {
			return fmt.Errorf("it does not take clients: %w\n%s", err, p.Tail())
		}
	}
}

// files counts the bytes of the server's data.
func (p *process) files() (n int64, err error) {
	err = filepath.WalkDir(filepath.Join(p.Dir, "data"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced by a newer one meanwhile
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
