package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/farhop/farhop/node/admin"
)

// Patience with processes of this machine, however busy it is.
const (
	startWait = 60 * time.Second // until ready
	stopWait  = 10 * time.Second // after SIGTERM, until it is killed
	askWait   = 5 * time.Second  // one question to the API
	tailBytes = 2000             // of a log, shown when its node failed
)

// process is one node: a child process on a data directory. Between start and
// halt or kill its end is a failure, which is told to lost.
type process struct {
	name, program, dir, log string
	lost                    context.CancelCauseFunc

	mu     sync.Mutex // guards what follows
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd ended
	ending bool          // its end is wanted
}

func newProcess(name, program, dir string, lost context.CancelCauseFunc) *process {
	return &process{name: name, program: program, dir: filepath.Join(dir, name), log: filepath.Join(dir, name+".log"), lost: lost}
}

// start starts the process. Its log goes on where the one before ended.
func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.name, err)
	}
	// A stale address must not be taken for an answer: another node may have
	// been given the port meanwhile.
	if err := os.Remove(filepath.Join(p.dir, admin.AddrFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("start %s: %w", p.name, err), log.Close())
	}
	cmd := exec.Command(p.program, "run", "--dir", p.dir)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, childAttr()
	err = cmd.Start()
	_ = log.Close() // the child has its own
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.ended, p.ending = cmd, ended, false
	p.mu.Unlock()
	go func() { // ends with the process
		err := cmd.Wait()
		p.mu.Lock()
		wanted := p.ending
		p.mu.Unlock()
		close(ended)
		if !wanted {
			p.lost(fmt.Errorf("%s ended by itself (%w); its log ends with:\n%s", p.name, ending(err), p.tail()))
		}
	}()
	return nil
}

// ending gives an exit without an error a text.
func ending(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *process) kill() { p.end(os.Kill, stopWait) }

// halt lets the process end in order (SIGTERM), and kills it when it does not.
func (p *process) halt() { p.end(syscall.SIGTERM, stopWait) }

func (p *process) end(sig os.Signal, patience time.Duration) {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.ending = true
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := cmd.Process.Signal(sig); err != nil {
		_ = cmd.Process.Kill() // gone already, or no such signal on this system
	}
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-ended
	}
}

// tail is the end of the log.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	data = data[max(len(data)-tailBytes, 0):]
	return strings.TrimSpace(string(data))
}

// client speaks to the API of the process. The address may be another one
// after each start.
func (p *process) client() (*admin.Client, error) { return admin.Dial(p.dir) }

// ready waits until the node takes messages.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startWait, errors.New("it was not ready in time"))
	defer cancel()
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	for {
		if p.isReady(ctx) {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("start %s: it ended; its log ends with:\n%s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("start %s: %w; its log ends with:\n%s", p.name, context.Cause(ctx), p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *process) isReady(ctx context.Context) bool {
	address, err := os.ReadFile(filepath.Join(p.dir, admin.AddrFile))
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimSpace(string(address))+"/readyz", nil)
	if err != nil {
		return false
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy of the environment
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// status asks the node for a picture of itself.
func (p *process) status(ctx context.Context) (admin.Status, error) {
	c, err := p.client()
	if err != nil {
		return admin.Status{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	return c.Status(ctx)
}
