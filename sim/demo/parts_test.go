package demo

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/routing/addr"
)

func TestSurveyFailsOver(t *testing.T) {
	first, err := newServer(earth)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	second, err := newServer(relay)
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	s := newSurvey(first.address(), 7, time.Second)
	var story []string
	say := func(format string, _ ...any) { story = append(story, format) }
	turn := func(seen surveyed) bool {
		if seen.done[earth] == 2 { // the address leads elsewhere from here on
			first.retire()
			s.addr = second.address()
		}
		return seen.complete()
	}
	if err := s.run(t.Context(), time.Millisecond, turn, say); err != nil {
		t.Fatal(err)
	}
	got := s.seen()
	if got.done[earth] != 2 || got.done[relay] != 1 || got.failovers != 1 || got.unequal != 0 || got.bytes < 6*blobMin {
		t.Errorf("got %+v", got)
	}
	if len(story) != 4 {
		t.Errorf("told %q, want three exchanges and a failover", story)
	}
}

func TestSurveyTriesAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // a server that hangs up; ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	s := newSurvey(l.Addr().String(), 7, time.Second)
	if err := s.run(t.Context(), time.Millisecond, func(seen surveyed) bool { return seen.broken == 3 }, func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	if got := s.seen(); got.bytes != 0 || len(got.done) != 0 {
		t.Errorf("got %+v, want nothing completed", got)
	}
}

func TestSurveyEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(stop) })
	err = newSurvey(l.Addr().String(), 7, time.Second).run(ctx, time.Millisecond, func(surveyed) bool { return false }, func(string, ...any) {})
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}

func TestDirectory(t *testing.T) {
	dir, remove, err := directory("")
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
	keep := filepath.Join(t.TempDir(), "new")
	if _, remove, err = directory(keep); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keep, "mine"), nil, 0o600); err != nil {
		t.Fatalf("a directory to keep was removed: %v", err)
	}
	if _, _, err := directory(keep); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("somebody's files: got %v", err)
	}
}

func TestProcessThatEndsIsReported(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "farhop")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho no such luck >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, lost := context.WithCancelCause(t.Context())
	p := newProcess(luna, program, dir, lost)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	if err := p.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("ready: got %v, want the end of the log", err)
	}
	<-ctx.Done()
	if why := context.Cause(ctx); !strings.Contains(why.Error(), "luna ended by itself") || !strings.Contains(why.Error(), "exit status 3") {
		t.Errorf("lost: got %v", why)
	}
	p.halt() // of one that is gone does nothing
}

func TestProcessIsKilled(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "farhop")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, lost := context.WithCancelCause(t.Context())
	p := newProcess(luna, program, dir, lost)
	for range 2 {
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		p.kill()
	}
	if err := context.Cause(ctx); err != nil {
		t.Errorf("an end that was wanted is reported: %v", err)
	}
}

func TestViewFitsItsWidth(t *testing.T) {
	s, err := newStage(Config{Duration: 40 * time.Second, Seed: 1<<64 - 1}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for _, l := range s.picture().lines() {
			if n := utf8.RuneCountInString(clip(l, viewWidth)); n > viewWidth {
				t.Errorf("%s: %d columns: %s", when, n, l)
			}
		}
	}
	s.say("%s", strings.Repeat("word ", 40))
	check("before the start")
	s.start, s.survey, s.pushed, s.cut = time.Now().Add(-12*time.Second), newSurvey("", 1, time.Second), 3, true
	queue := []admin.Queue{{Bundles: 12345, InFlight: 4321}}
	peers := []admin.Peer{{Node: addr.MustNode(relay), State: admin.PeerUp}}
	s.seen[luna] = observed{Status: admin.Status{Queues: queue, Peers: peers}}
	s.seen[relay] = observed{down: true}
	check("in the middle")
	text := strings.Join(s.picture().lines(), "\n")
	for _, want := range []string{"no contact for", "CUT", "relay  DOWN", "queued 8024", "in flight 4321", "revision 3"} {
		if !strings.Contains(text, want) {
			t.Errorf("the view does not show %q:\n%s", want, text)
		}
	}
}

func TestPlainLogTellsEachEventOnce(t *testing.T) {
	s, err := newStage(Config{Duration: 40 * time.Second}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	v := newView(Config{Out: &b}, s)
	s.say("one")
	v.log()
	s.say("two")
	v.log()
	v.log()
	if want := "   0.0 s  one\n   0.0 s  two\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
