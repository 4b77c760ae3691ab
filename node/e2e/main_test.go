//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a condition. It is far beyond what a loaded
// machine needs; a test that reaches it has found something that never comes.
const patience = 90 * time.Second

// env is what all tests share: made by TestMain, never changed.
var env struct {
	dir    string // temporary, for binaries
	farhop string // the binary under test
	spawn  chan spawning
}

// spawning is a command to be started, see spawner.
type spawning struct {
	cmd  *exec.Cmd
	done chan<- error
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	if env.dir, err = os.MkdirTemp("", "farhop-e2e"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(env.dir)
	env.spawn = make(chan spawning)
	defer close(env.spawn)
	go spawner(env.spawn)
	if env.farhop = os.Getenv("FARHOP_BIN"); env.farhop == "" {
		env.farhop = filepath.Join(env.dir, "farhop")
		if err := build(env.farhop); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// build compiles farhop, for another platform if variables say so.
func build(out string, platform ...string) error {
	cmd := exec.Command("go", "build", "-o", out, "github.com/farhop/farhop/cmd/farhop")
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), platform...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, text)
	}
	return nil
}

// spawner starts all processes from one thread that lives as long as the test
// binary: the kernel kills them when that thread ends (PR_SET_PDEATHSIG), so
// that not even a panic leaves a daemon behind.
func spawner(in <-chan spawning) {
	runtime.LockOSThread()
	for s := range in {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		s.done <- s.cmd.Start()
	}
}

func start(cmd *exec.Cmd) error {
	done := make(chan error)
	env.spawn <- spawning{cmd, done}
	return <-done
}

// need skips the test when a program is missing, or fails it where all must
// be there.
func need(t *testing.T, program, how string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("FARHOP_E2E") == "require" {
		t.Fatalf("%s is missing: %s", program, how)
	}
	t.Skipf("%s is missing: %s", program, how)
	return ""
}

// full skips a test that is not one of the quick ones.
func full(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("only quick tests with -short")
	}
}

// until waits for a condition. what is asked for its present state when time
// is up.
func until(t *testing.T, what func() string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", patience, what())
		}
	}
}

func text(s string) func() string { return func() string { return s } }
