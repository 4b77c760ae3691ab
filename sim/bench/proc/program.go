package proc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

const (
	tailBytes = 4096             // of a log, for errors
	endWait   = 30 * time.Second // for a program that was asked to end
)

// Program is a program with a folder of its own, which is run, killed and run
// again. Its output goes to a log there. It is for one goroutine.
type Program struct {
	Path string
	Args []string
	Dir  string
	cmd  *exec.Cmd // nil while it does not run
}

// Begin runs the program. ctx kills it.
func (p *Program) Begin(ctx context.Context) error {
	logs, err := os.OpenFile(p.logs(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logs.Close() // the process has its own copy
	p.cmd = exec.CommandContext(ctx, p.Path, p.Args...)
	p.cmd.Stdout, p.cmd.Stderr = logs, logs
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return err
	}
	return nil
}

// PID is the process of a program that runs.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Gone reports whether the program has ended by itself. A process that ended
// and was not waited for has no memory.
func (p *Program) Gone() bool {
	m, err := MemoryOf(p.PID())
	return err != nil && m.Resident == 0
}

// Kill ends the program as SIGKILL does: it can save nothing. One that does
// not run is no error.
func (p *Program) Kill() error {
	if p.cmd == nil {
		return nil
	}
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if x := (*exec.ExitError)(nil); err == nil {
		if err = p.cmd.Wait(); errors.As(err, &x) {
			err = nil
		}
	}
	p.cmd = nil
	return err
}

// End asks the program to end (SIGTERM) and waits until it has. One that does
// not is killed, which is an error.
func (p *Program) End() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(err, p.Kill())
	}
	process := p.cmd.Process
	late := time.AfterFunc(endWait, func() { _ = process.Kill() }) // Wait tells
	defer late.Stop()
	err := p.cmd.Wait()
	p.cmd = nil
	if err != nil {
		return fmt.Errorf("%s did not end in order: %w", p.Path, err)
	}
	return nil
}

// Stop kills the program and removes its folder.
func (p *Program) Stop() error { return errors.Join(p.Kill(), os.RemoveAll(p.Dir)) }

// Tail returns the end of the program's log.
func (p *Program) Tail() string {
	data, err := os.ReadFile(p.logs())
	if err != nil {
		return err.Error()
	}
	return string(data[max(len(data)-tailBytes, 0):])
}

func (p *Program) logs() string { return filepath.Join(p.Dir, "log") }

// FreeAddr finds an address of loopback that is free for TCP and UDP, another
// one each time for many times in a row. Its port is below those that systems
// give to outgoing connections (32,768 and up on Linux), so that nothing takes
// it while its program is down.
func FreeAddr() (string, error) {
	const first, ports = 12000, 20000
	for range 100 {
		// By the microsecond, which each call takes some of: two that were drawn
		// would be the same now and then.
		at := time.Now().UnixMicro() + int64(os.Getpid())*7919
		addr := fmt.Sprintf("127.0.0.1:%d", first+at%ports)
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		pc, err := net.ListenPacket("udp", addr)
		if err := ln.Close(); err != nil {
			return "", err
		}
		if err == nil {
			return addr, pc.Close()
		}
	}
	return "", errors.New("no port of 100 tried is free for TCP and UDP on 127.0.0.1")
}

// FindMosquitto looks where systems keep it, "" when there is none.
func FindMosquitto() string {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// MosquittoVersion asks the program; "" when it does not say.
func MosquittoVersion(ctx context.Context, program string) string {
	text, _ := exec.CommandContext(ctx, program, "-h").CombinedOutput() // its help ends with code 3
	m := regexp.MustCompile(`version ([0-9][0-9.]*)`).FindSubmatch(text)
	if m == nil {
		return ""
	}
	return string(m[1])
}
