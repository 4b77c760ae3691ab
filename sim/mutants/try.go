package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// mutant is one planted bug.
type mutant struct {
	name     string // which promise is broken, in words
	file     string // relative to the repository
	old, new string // old occurs exactly once
	tests    string // package and pattern of tests that have to fail, and flags for that, such as "sim ^TestMesh -soak=2"
	law      string // a regular expression the failing tests have to print; "" for any
	not      string // one they must not print: laws that should stay quiet
	short    bool
}

// verdict is what became of a mutant.
type verdict uint8

// The verdicts.
const (
	killed   verdict = iota // the tests failed
	survived                // they passed
	wrongLaw                // they failed, but not as they should
	unfit                   // its old text is not in the file exactly once
	broken                  // it does not build
	unready                 // its tests fail without it
)

func (v verdict) String() string {
	return [...]string{"killed", "SURVIVED", "WRONG LAW", "DOES NOT APPLY", "DOES NOT BUILD", "TESTS FAIL"}[v]
}

// result is a verdict with its reasons.
type result struct {
	mutant  mutant
	verdict verdict
	how     string // tests that failed, or why not
	output  string
	took    time.Duration
}

// maxOutput bounds what is shown of a test, in bytes.
const maxOutput = 3000

func (r result) detail() string {
	text := fmt.Sprintf("%s: tests: %s, law: %q, not: %q\n- %s\n+ %s", r.mutant.file, r.mutant.tests, r.mutant.law, r.mutant.not, r.mutant.old, r.mutant.new)
	if r.output == "" || r.verdict == survived {
		return text
	}
	return text + "\n" + r.output[:min(len(r.output), maxOutput)]
}

// Patience with a build and with a test of a mutant: one that hangs is killed.
const (
	buildWait = 5 * time.Minute
	testWait  = "60s"
)

// workshop is where mutants are built.
type workshop struct {
	root, dir string

	mu     sync.Mutex               // guards what follows
	faults map[string]func() string // of tests, without a mutant; each runs them once
}

// newWorkshop finds the repository from the working directory.
func newWorkshop() (*workshop, error) {
	root, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if filepath.Dir(root) == root {
			return nil, errors.New("run it inside the repository")
		}
		root = filepath.Dir(root)
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "farhop-mutants-")
	return &workshop{root: root, dir: dir}, err
}

func (w *workshop) close() { _ = os.RemoveAll(w.dir) }

// split returns package, pattern and flags of the tests.
func (m mutant) split() (pkg, pattern string, flags []string) {
	f := strings.Fields(m.tests)
	return "./" + f[0], f[1], f[2:]
}

// baseline runs the tests of a mutant on the tree as it is, once, and returns
// what is wrong with them: what fails there proves nothing. The go command
// remembers what passed before.
func (w *workshop) baseline(ctx context.Context, m mutant) string {
	w.mu.Lock()
	if w.faults == nil {
		w.faults = map[string]func() string{}
	}
	run, ok := w.faults[m.tests]
	if !ok {
		run = sync.OnceValue(func() string { return w.without(ctx, m) })
		w.faults[m.tests] = run
	}
	w.mu.Unlock()
	return run()
}

func (w *workshop) without(ctx context.Context, m mutant) string {
	pkg, pattern, _ := m.split()
	args := []string{"test", "-timeout", "5m", "-run", pattern, pkg}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = w.root
	switch out, err := cmd.CombinedOutput(); {
	case err != nil:
		return fmt.Sprintf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	case bytes.Contains(out, []byte("no tests to run")):
		return fmt.Sprintf("go %s: there is no such test", strings.Join(args, " "))
	}
	return ""
}

// try plants one mutant and runs its tests.
func (w *workshop) try(ctx context.Context, m mutant) result {
	r := result{mutant: m}
	if f := w.baseline(ctx, m); f != "" {
		r.verdict, r.how, r.output = unready, "without it too", f
		return r
	}
	began := time.Now()
	dir, err := os.MkdirTemp(w.dir, "m")
	if err == nil {
		err = w.plant(dir, m)
	}
	if err != nil {
		r.verdict, r.how = unfit, err.Error()
		return r
	}
	pkg, pattern, flags := m.split()
	binary := filepath.Join(dir, "t")
	build, cancel := context.WithTimeout(ctx, buildWait)
	defer cancel()
	cmd := exec.CommandContext(build, "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, pkg)
	cmd.Dir = w.root
	if out, err := cmd.CombinedOutput(); err != nil {
		r.verdict, r.how, r.output = broken, err.Error(), string(out)
		return r
	}
	// In a copy of the package's folder, where tests may leave what they want.
	place := filepath.Join(dir, "run", filepath.FromSlash(pkg))
	if err := os.CopyFS(place, os.DirFS(filepath.Join(w.root, pkg))); err != nil {
		r.verdict, r.how = broken, err.Error()
		return r
	}
	cmd = exec.CommandContext(ctx, binary, append([]string{"-test.run", pattern, "-test.timeout", testWait}, flags...)...)
	cmd.Dir = place
	out, err := cmd.CombinedOutput()
	_ = os.RemoveAll(dir)
	r.output = string(out)
	r.judge(err)
	r.took = time.Since(began)
	return r
}

// judge reads the tests' output.
func (r *result) judge(err error) {
	if err == nil {
		r.verdict, r.how = survived, "by "+r.mutant.tests
		return
	}
	if r.how = strings.Join(failed(r.output), " "); r.how == "" {
		r.verdict, r.how = broken, "no test failed, yet: "+err.Error() // a flag it does not know, say
		return
	}
	if r.mutant.law != "" && !regexp.MustCompile(r.mutant.law).MatchString(r.output) {
		r.verdict, r.how = wrongLaw, "not a word of "+r.mutant.law
	}
	if r.mutant.not != "" {
		if said := regexp.MustCompile(r.mutant.not).FindString(r.output); said != "" {
			r.verdict, r.how = wrongLaw, "not alone: "+said
		}
	}
}

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^(panic: test timed out|panic: .{0,60}|fatal error: .{0,60})`)

// failed names the tests that failed, or the panic that ended them.
func failed(output string) []string {
	var names []string
	for _, m := range failure.FindAllStringSubmatch(output, -1) {
		if name := m[1] + m[2]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// read returns the file of a mutant, in which its old text is exactly once.
func (w *workshop) read(m mutant) ([]byte, error) {
	src, err := os.ReadFile(filepath.Join(w.root, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%q is %d times in %s", m.old, n, m.file)
	}
	return src, nil
}

// plant writes the changed file and the overlay that puts it in its place.
func (w *workshop) plant(dir string, m mutant) error {
	src, err := w.read(m)
	if err != nil {
		return err
	}
	changed := filepath.Join(dir, "changed.go")
	path := filepath.Join(w.root, filepath.FromSlash(m.file))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(changed, bytes.Replace(src, []byte(m.old), []byte(m.new), 1), 0o600),
		os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600),
	)
}
