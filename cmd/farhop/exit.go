package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

// Exit codes. They are documented in exitCodesTopic and never change meaning.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotRunning  = 3
	exitNoNode      = 4
	exitNothing     = 5
	exitBroken      = 6
	exitUnconfirmed = 7
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of farhop, for scripts:

    0  it is done
    1  it failed; the reason is on standard error
    2  the command was used wrongly: a flag, an argument or its value
    3  no daemon answers in the data directory, or no broker at its address
    4  the data directory holds no node yet
    5  there was nothing in time: no message for farhop sub --wait, no receipt
       for farhop pub --receipt, no copy of the message for farhop why, nothing
       in the queue for farhop queue peek, purge and replay, no such session for
       farhop sessions show, kick and end, nothing retained for farhop retained
       get and rm, no answer for farhop ping
    6  what was examined is not as it should be: farhop sim run, the world broke
       a law, such as a lost message; farhop store check, export or migrate,
       something is damaged; farhop netcheck, a peer is not reached
    7  nothing was done without your word: farhop queue purge, farhop sessions end
       and farhop retained rm of more than a topic without --yes
  130  it was interrupted before it was done

The commands that go on until they are stopped (run, sub, tap, ping, sim link) end with 0
on SIGINT and SIGTERM. Errors go to standard error in two lines: what is wrong,
and what to try.`,
	}
}

// failure is an error with its exit code and the next step.
type failure struct {
	code int
	what error
	hint string
}

func (f *failure) Error() string { return f.what.Error() }
func (f *failure) Unwrap() error { return f.what }

// usage makes the error of a wrong call.
func usage(c *cobra.Command, format string, args ...any) *failure {
	return &failure{exitUsage, fmt.Errorf(format, args...), c.CommandPath() + " --help"}
}

// failed makes an error with a next step.
func failed(hint, format string, args ...any) *failure {
	return &failure{exitFailed, fmt.Errorf(format, args...), hint}
}

// report writes an error and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		a.note("farhop: interrupted")
		return exitInterrupted
	}
	f := explain(err)
	lines := strings.Split(strings.TrimRight(clean(f.Error(), '\n'), "\n"), "\n")
	a.note("farhop: %s", strings.Join(lines, "\n        "))
	if f.hint != "" {
		a.note("  try: %s", clean(f.hint, 0))
	}
	return f.code
}

// explain finds the exit code and the next step of an error.
func explain(err error) *failure {
	if f := (*failure)(nil); errors.As(err, &f) {
		return &failure{f.code, err, f.hint}
	}
	if n := (*admin.NotRunning)(nil); errors.As(err, &n) {
		return &failure{exitNotRunning, errors.New(n.What()), n.Next() + "; one with --standalone answers only with --admin HOST:PORT"}
	}
	if e := (*admin.Error)(nil); errors.As(err, &e) {
		return &failure{exitFailed, err, e.Hint}
	}
	return &failure{exitFailed, err, ""}
}

// dataDir is where the node lives. The same answer comes from every working
// directory, so that a command never speaks to another node than the last one.
func (a *app) dataDir() (string, error) {
	dir := a.dir
	if dir == "" {
		dir = os.Getenv("FARHOP_DIR")
	}
	if dir == "" && os.Geteuid() == 0 {
		dir = "/var/lib/farhop"
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", &failure{exitUsage, fmt.Errorf("no data directory: %w", err), "name one with --dir"}
		}
		dir = filepath.Join(home, ".farhop")
	}
	return dir, nil
}

// noNode explains an error of a command that needs the configuration in dir.
func (a *app) noNode(dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, there := os.Stat(filepath.Join(dir, config.FileName)); !errors.Is(there, fs.ErrNotExist) {
		return err
	}
	return &failure{exitNoNode, fmt.Errorf("there is no node in %s", dir), "farhop init --region REGION, or farhop join TICKET, or name another directory with --dir"}
}
