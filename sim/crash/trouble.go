package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"time"
)

// trouble is one kind of what may happen to a mesh.
type trouble struct {
	name   string
	weight int // how often, relative to the others
	needs  func(*campaign) error
	strike func(*round, context.Context) error
}

// troubles are all of them. Nobody writes to the table.
var troubles = []trouble{
	{"kill", 20, nil, (*round).kill},
	{"kill two", 10, nil, (*round).killTwo},
	{"kill again", 10, nil, (*round).killAgain},
	{"kill at a call", 30, (*campaign).needStrace, (*round).killAtCall},
	{"sync fails", 10, (*campaign).needStrace, (*round).syncFails},
	{"disk full", 8, (*campaign).needDisk, (*round).diskFull},
	{"no space", 8, (*campaign).needStrace, (*round).noSpace},
	{"cut", 8, nil, (*round).cut},
	{"cut and kill", 12, nil, (*round).cutAndKill},
	{"kill in flight", 12, nil, (*round).killInFlight},
	{"kill unread", 10, nil, (*round).killAway},
	{"freeze", 6, (*campaign).needFreeze, (*round).freeze},
	{"stop", 4, nil, (*round).stop},
}

// round is one piece of trouble, drawn from the seed and its number.
type round struct {
	*campaign
	number int
	kind   trouble
	rng    *rand.Rand
	victim *process
	spread time.Duration // of a batch: it strikes within this time and lasts no longer
	story  strings.Builder
}

func (r *round) say(format string, args ...any) {
	if r.story.Len() > 0 {
		r.story.WriteString("; ")
	}
	fmt.Fprintf(&r.story, format, args...)
}

// pause lets up to d of random length pass.
func (r *round) pause(ctx context.Context, d time.Duration) { sleep(ctx, r.within(d)) }

func (r *round) within(d time.Duration) time.Duration { return time.Duration(r.rng.Int64N(int64(d))) }

// other is a node that is not the victim.
func (r *round) other() *process {
	for {
		if p := r.mesh.nodes[names()[r.rng.IntN(3)]]; p != r.victim {
			return p
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (r *round) kill(ctx context.Context) error {
	r.pause(ctx, 1200*time.Millisecond)
	r.victim.kill()
	down := r.within(time.Second)
	r.say("down for %s", short(down))
	sleep(ctx, down)
	return r.victim.start(ctx)
}

func (r *round) killTwo(ctx context.Context) error {
	second := r.other()
	r.pause(ctx, 1200*time.Millisecond)
	r.victim.kill()
	r.pause(ctx, 300*time.Millisecond)
	second.kill()
	r.say("and %s", second.name)
	r.pause(ctx, time.Second)
	if err := r.victim.start(ctx); err != nil {
		return err
	}
	r.pause(ctx, 300*time.Millisecond)
	return second.start(ctx)
}

// killAgain kills a node that is about to recover.
func (r *round) killAgain(ctx context.Context) error {
	r.pause(ctx, 800*time.Millisecond)
	r.victim.kill()
	for range 1 + r.rng.IntN(3) {
		if err := r.victim.launch(true); err != nil {
			return err
		}
		after := r.within(600 * time.Millisecond)
		sleep(ctx, after)
		r.victim.kill()
		r.say("again %s after its start", short(after))
	}
	return r.victim.start(ctx)
}

// calls are those at which a node is killed, with how many of a thread to wait
// for at most. One that this machine's processor does not have is passed over.
var calls = []struct {
	names string
	most  int
}{
	{"pwrite64", 15},
	{"pwrite64", 60},
	{"pwrite64", 250},
	{"fdatasync", 8},
	{"fdatasync", 30},
	{"fdatasync", 80},
	{"fsync,?rename,renameat,?unlink,unlinkat,ftruncate,fallocate", 5},
}

// killAtCall starts the node under strace, which kills it when a thread
// enters the n-th of a system call: before the kernel does what it is asked.
func (r *round) killAtCall(ctx context.Context) error {
	at := calls[r.rng.IntN(len(calls))]
	n := 1 + r.rng.IntN(at.most)
	r.pause(ctx, 300*time.Millisecond)
	r.victim.kill()
	began := time.Now()
	if err := r.victim.launch(true, inject(at.names, fmt.Sprintf("signal=KILL:when=%d", n))...); err != nil {
		return err
	}
	name, _, _ := strings.Cut(at.names, ",")
	if r.victim.wait(ctx, 5*time.Second) {
		r.say("%s %d, %s after its start", name, n, short(time.Since(began)))
	} else {
		r.say("%s %d was not reached, plainly killed", name, n)
	}
	r.victim.kill()
	return r.victim.start(ctx)
}

// syncFails has every fdatasync of a thread fail from the n-th on. The node
// cannot know what its disk holds then: it has to end, and to say so.
func (r *round) syncFails(ctx context.Context) error {
	n := 2 + r.rng.IntN(12)
	r.victim.kill()
	if err := r.victim.launch(true, inject("fdatasync", fmt.Sprintf("error=EIO:when=%d+", n))...); err != nil {
		return err
	}
	switch {
	case !r.victim.wait(ctx, 8*time.Second):
		r.say("fdatasync %d was not reached", n)
	case r.victim.code() <= 0:
		r.ledger.fault("%s ended with exit code %d when fdatasync failed: it must not look well", r.victim.name, r.victim.code())
	default:
		r.say("fdatasync %d: exit code %d", n, r.victim.code())
	}
	r.victim.kill()
	return r.victim.start(ctx)
}

// noSpace starts the node with a disk on which no file can grow, or, as on one
// that promised more than it has, on which nothing can be written any more.
func (r *round) noSpace(ctx context.Context) error {
	calls, what := "fallocate,ftruncate", "error=ENOSPC:when=1+"
	if r.rng.IntN(2) == 0 {
		calls, what = "pwrite64", fmt.Sprintf("error=ENOSPC:when=%d+", 1+r.rng.IntN(80))
	}
	r.say("%s %s", calls, what)
	r.victim.kill()
	if err := r.victim.launch(true, inject(calls, what)...); err != nil {
		return err
	}
	r.load(20)
	if r.victim.wait(ctx, 2*time.Second+r.within(3*time.Second)) {
		r.say("exit code %d", r.victim.code())
		if r.victim.code() <= 0 {
			r.ledger.fault("%s ended with exit code %d without space", r.victim.name, r.victim.code())
		}
	}
	r.victim.kill()
	return r.victim.start(ctx)
}

// inject is the command that has strace meddle with system calls of the
// program that follows. -D keeps that a child of ours.
func inject(calls, what string) []string {
	return []string{"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + what}
}

func (c *campaign) needStrace() error {
	line := append(inject("getpid", "when=1:error=EIO"), "true")
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("strace does not work here: %w %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (c *campaign) needDisk() error { return c.mesh.why }

// diskFull takes all room away for a while in which more comes than can leave.
// The node may refuse, and it may end, saying so; it must not lose anything.
func (r *round) diskFull(ctx context.Context) error {
	d := r.mesh.disks[r.victim.name]
	_, _, before, _ := r.ledger.totals()
	r.victim.allow(true)
	r.dam(true)
	defer r.dam(false)
	r.load(30) // so that the store has no room of its own left
	sleep(ctx, time.Second)
	if err := d.fill(); err != nil {
		return err
	}
	r.load(60)
	ended := r.victim.wait(ctx, 1500*time.Millisecond+r.within(3*time.Second))
	if !ended && r.rng.IntN(3) == 0 {
		r.victim.kill()
		r.say("killed")
	}
	if r.victim.wait(ctx, 0) && r.rng.IntN(2) == 0 {
		if err := r.victim.launch(true); err != nil {
			return err
		}
		r.say("started while full")
		r.pause(ctx, 1500*time.Millisecond)
	}
	if r.victim.wait(ctx, 0) {
		if r.victim.code() > 0 {
			r.say("exit code %d", r.victim.code())
		}
		r.victim.kill()
		if err := d.free(); err != nil {
			return err
		}
		return r.victim.start(ctx)
	}
	_, _, after, _ := r.ledger.totals()
	r.say("%d refused", after-before)
	return d.free() // flowing starts what ends in this moment
}

func (r *round) load(n int) {
	for _, p := range r.publishers {
		p.load(n)
	}
}

// dam keeps messages from leaving the victim.
func (r *round) dam(on bool) {
	switch r.victim.name {
	case sender:
		r.mesh.uplink(sender).Cut(on)
	case relay:
		r.mesh.uplink(receiver).Cut(on)
	case receiver:
		for _, s := range r.subscribers {
			s.leave(on)
		}
	}
}

func (r *round) cut(ctx context.Context) error {
	for _, p := range []*process{r.mesh.nodes[sender], r.mesh.nodes[receiver]} {
		if p != r.victim && r.victim.name != relay {
			continue
		}
		for range 1 + r.rng.IntN(3) {
			r.mesh.uplink(p.name).Cut(true)
			r.pause(ctx, 1500*time.Millisecond)
			r.mesh.uplink(p.name).Cut(false)
			r.pause(ctx, 300*time.Millisecond)
		}
	}
	return nil
}

func (r *round) cutAndKill(ctx context.Context) error {
	end := []string{sender, receiver}[r.rng.IntN(2)]
	link := r.mesh.uplink(end)
	r.say("link of %s", end)
	link.Cut(true)
	r.pause(ctx, 700*time.Millisecond)
	r.victim.kill()
	if r.rng.IntN(2) == 0 {
		link.Cut(false)
	}
	r.pause(ctx, 500*time.Millisecond)
	err := r.victim.start(ctx)
	r.pause(ctx, 500*time.Millisecond)
	link.Cut(false)
	return err
}

// killInFlight kills a node, mostly the receiver, in the middle of a burst.
func (r *round) killInFlight(ctx context.Context) error {
	if r.rng.IntN(3) > 0 {
		r.victim = r.mesh.nodes[receiver]
	}
	_, _, _, before := r.ledger.totals()
	for _, p := range r.publishers {
		p.hurry(300)
	}
	target := before + 50 + r.rng.IntN(500)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, time.Millisecond) {
		if _, _, _, n := r.ledger.totals(); n >= target {
			break
		}
	}
	r.victim.kill()
	_, _, _, after := r.ledger.totals()
	r.say("%d messages into a burst", after-before)
	r.pause(ctx, 500*time.Millisecond)
	return r.victim.start(ctx)
}

// killAway kills the victim while the devices that read are away.
func (r *round) killAway(ctx context.Context) error {
	for _, s := range r.subscribers {
		s.leave(true)
	}
	r.pause(ctx, 1000*time.Millisecond)
	r.victim.kill()
	r.pause(ctx, 500*time.Millisecond)
	err := r.victim.start(ctx)
	r.pause(ctx, 500*time.Millisecond)
	for _, s := range r.subscribers {
		s.leave(false)
	}
	return err
}

// freeze stops a node without ending it, as a machine does that swaps or
// sleeps.
func (r *round) freeze(ctx context.Context) error {
	d := r.within(4 * time.Second)
	r.say("for %s", short(d))
	r.victim.freeze(true)
	sleep(ctx, d)
	r.victim.freeze(false)
	return nil
}

// stop ends a node in order, which has to go well.
func (r *round) stop(ctx context.Context) error {
	r.pause(ctx, 500*time.Millisecond)
	if err := r.victim.halt(ctx); err != nil {
		r.ledger.fault("%v", err)
	}
	r.victim.kill()
	return r.victim.start(ctx)
}

func short(d time.Duration) string { return d.Round(time.Millisecond).String() }
