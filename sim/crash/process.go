package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Patience with processes, however busy the machine is.
const (
	startWait = 60 * time.Second
	stopWait  = 30 * time.Second // after SIGTERM
	tailBytes = 3000             // of a log that is shown
)

// process is one node: a child process on a data directory. Its end is a
// fault unless it is wanted.
type process struct {
	name, program, dir, log string
	mqtt, mesh, admin       string // HOST:PORT
	ledger                  *ledger

	mu     sync.Mutex // guards what follows
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd ended
	wanted bool          // its end is
	begun  time.Time     // cmd was started

	turn sync.Mutex // of mishaps that end the node and start it again
}

// launch starts the node, with a program before it that runs it, and does not
// wait until it is ready. mayEnd says that it may end by itself.
func (p *process) launch(mayEnd bool, before ...string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.name, err)
	}
	defer log.Close()
	line := append(before, p.program, "run", "--dir", p.dir)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, childAttr()
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.ended, p.wanted, p.begun = cmd, ended, mayEnd, begun
	p.mu.Unlock()
	go func() { // ends with the process
		err := cmd.Wait()
		p.mu.Lock()
		wanted := p.wanted
		p.mu.Unlock()
		close(ended)
		if !wanted {
			p.ledger.fault("%s ended by itself: %v; its log ends with:\n%s", p.name, err, p.tail())
		}
	}()
	return nil
}

// running returns the process and what tells its end.
func (p *process) running() (*exec.Cmd, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd, p.ended
}

// since is when the process was started.
func (p *process) since() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun
}

// allow says whether the node may end by itself.
func (p *process) allow(end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = end
}

func (p *process) signal(s syscall.Signal) {
	if cmd, _ := p.running(); cmd != nil {
		_ = cmd.Process.Signal(s) // gone already is what most want
	}
}

// kill ends the node as a power cut does, but for what the kernel holds.
func (p *process) kill() {
	p.allow(true)
	p.signal(syscall.SIGKILL)
	if _, ended := p.running(); ended != nil {
		<-ended
	}
}

// wait waits until the node ended by itself, and reports whether it did.
func (p *process) wait(ctx context.Context, patience time.Duration) bool {
	_, ended := p.running()
	select {
	case <-ended:
	case <-ctx.Done():
	case <-time.After(patience):
	}
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// halt ends the node as systemd does. The error says that it did not end well.
func (p *process) halt(ctx context.Context) error {
	p.allow(true)
	p.signal(syscall.SIGTERM)
	if !p.wait(ctx, stopWait) {
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, stopWait)
	}
	if p.code() != 0 {
		return fmt.Errorf("%s ended with exit code %d on SIGTERM; its log ends with:\n%s", p.name, p.code(), p.tail())
	}
	return nil
}

// code is the exit code of a node that ended, -1 after a signal.
func (p *process) code() int {
	cmd, _ := p.running()
	return cmd.ProcessState.ExitCode()
}

// start starts the node and waits until it takes messages.
func (p *process) start(ctx context.Context) error {
	if err := p.launch(false); err != nil {
		return err
	}
	if err := p.ready(ctx); err != nil {
		return fmt.Errorf("%w; its log ends with:\n%s", err, p.tail())
	}
	return nil
}

// ready waits until the node takes messages.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	_, ended := p.running()
	for !p.isReady(ctx) {
		select {
		case <-ended:
			return fmt.Errorf("start %s: it ended with exit code %d", p.name, p.code())
		case <-ctx.Done():
			return fmt.Errorf("start %s: not ready after %s", p.name, startWait)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (p *process) isReady(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz", nil)
	if err != nil {
		return false
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy of the environment
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(req)
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// do runs a farhop command on the node's directory to its end.
func (p *process) do(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program, append(args, "--dir", p.dir)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &errs, childAttr()
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("farhop %v at %s: %w\n%s", args, p.name, err, errs.String())
	}
	return out.String(), nil
}

// tail is the end of the log.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(data[max(len(data)-tailBytes, 0):]))
}

// panicked reports whether the log shows a crash of the program itself.
func (p *process) panicked() bool {
	data, err := os.ReadFile(p.log)
	return err == nil && (bytes.Contains(data, []byte("\ngoroutine ")) || bytes.Contains(data, []byte("panic:")))
}

// newProcess names a node below dir and finds ports for it.
func newProcess(name, program, dir string, l *ledger, ports *ports) (*process, error) {
	p := &process{name: name, program: program, dir: filepath.Join(dir, name, "data"), log: filepath.Join(dir, name+".log"), ledger: l}
	for _, to := range []*string{&p.mqtt, &p.mesh, &p.admin} {
		a, err := ports.next()
		if err != nil {
			return nil, err
		}
		*to = a
	}
	return p, nil
}
