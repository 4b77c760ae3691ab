package conformance

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Outcome is how a case ended.
type Outcome int

const (
	Passed  Outcome = iota
	Lax             // every MUST was kept, a SHOULD was not
	Failed          // a MUST was broken, or the server did not answer
	Skipped         // the server does not offer what the case needs
)

func (o Outcome) String() string { return [...]string{"passed", "lax", "failed", "skipped"}[o] }

// Result is what one case showed of a server.
type Result struct {
	Case    Case
	Outcome Outcome
	Step    string   // where it ended, unless it passed
	What    string   // what came instead, or what the server does not offer
	Clauses []string // of the rule that was broken; the case's own where no narrower is known
}

// Config says how to reach a server and how patient to be. The zero value is
// ready for use.
type Config struct {
	// Dial opens a connection, by default to the address by TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Wait bounds the wait for one packet, 0 = 10 s. It is generous: only a
	// server that does not answer makes a case wait so long.
	Wait time.Duration
	// Quiet is how long a server must be silent where a case says so, 0 = 250 ms.
	Quiet time.Duration
	// Parallel bounds the cases of RunAll that run at the same time, 0 = 32.
	Parallel int
}

// Validate says what is wrong with a configuration.
func (c Config) Validate() error {
	if c.Wait < 0 || c.Quiet < 0 || c.Parallel < 0 {
		return errors.New("conformance: Wait, Quiet and Parallel must not be negative")
	}
	return nil
}

func (c Config) filled() Config {
	c.Wait = cmp.Or(c.Wait, 10*time.Second)
	c.Quiet = cmp.Or(c.Quiet, 250*time.Millisecond)
	c.Parallel = cmp.Or(c.Parallel, 32)
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: c.Wait}).DialContext(ctx, "tcp", addr)
		}
	}
	return c
}

// Run runs one case against the server at an address, with the default
// configuration.
func Run(ctx context.Context, addr string, c Case) Result { return Config{}.Run(ctx, addr, c) }

// Run runs one case against the server at an address. Client identifiers and
// topics are new in every run, so that cases do not meet.
func (c Config) Run(ctx context.Context, addr string, one Case) Result {
	r := &runner{
		Config: c.filled(), ctx: ctx, addr: addr, version: one.Version,
		conns: map[string]*conn{}, ids: map[string]bool{}, retained: map[string]bool{}, pid: 1000,
	}
	tag := strings.ToLower(rand.Text()[:12])
	r.vars = map[string]string{"t": "cf/" + tag, "c": "cf" + tag, "i": "0", "V": fmt.Sprintf("%02x", one.Version), "P": ""}
	if one.Version >= 5 {
		r.vars["P"] = "00"
	}
	defer r.tidy()
	res := Result{Case: one, Clauses: one.Clauses}
	for _, s := range one.steps {
		err := r.step(s)
		if err == nil {
			continue
		}
		res.Outcome, res.Step, res.What = Failed, s.text, err.Error()
		var missing errMissing
		var b *breach
		switch {
		case errors.As(err, &missing):
			res.Outcome = Skipped
		case errors.As(err, &b) && b.clause != "":
			res.Clauses = []string{b.clause}
		}
		return res
	}
	if len(r.lax) > 0 {
		res.Outcome, res.Step, res.What = Lax, r.lax[0].text, r.laxWhat[0]
	}
	return res
}

// errMissing says what a server does not offer.
type errMissing struct{ what string }

func (e errMissing) Error() string { return "the server does not offer " + e.what }

// runner is one run of a case.
type runner struct {
	Config
	ctx     context.Context
	addr    string
	version byte
	vars    map[string]string
	conns   map[string]*conn
	pid     int
	lax     []step
	laxWhat []string

	ids      map[string]bool // clients that leave a session
	retained map[string]bool // topics that hold a message
}

// step runs one line, as often as its n= says.
func (r *runner) step(s step) error {
	switch s.op {
	case "sleep":
		return r.sleep(s.args[0])
	case "need":
		return r.need(s.args[0])
	}
	times := 1
	var args []string
	for _, w := range s.args {
		if n, ok := strings.CutPrefix(w, "n="); ok {
			n, err := strconv.ParseUint(r.fill(n), 0, 17)
			if err != nil {
				return err
			}
			times = int(n)
			continue
		}
		args = append(args, w)
	}
	for i := range times {
		r.vars["i"] = strconv.Itoa(i)
		if err := r.operate(s, r.fillAll(args), r.fillAll(s.then)); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) sleep(d string) error {
	t, err := time.ParseDuration(d)
	if err != nil {
		return err
	}
	select {
	case <-time.After(t):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// need skips the case unless LEFT>RIGHT, LEFT<RIGHT or LEFT=RIGHT.
func (r *runner) need(expression string) error {
	at := strings.IndexAny(expression, "<>=")
	if at < 0 {
		return fmt.Errorf("%q compares nothing", expression)
	}
	a, err1 := strconv.Atoi(r.fill(expression[:at]))
	b, err2 := strconv.Atoi(r.fill(expression[at+1:]))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if sign := cmp.Compare(a, b); sign != map[byte]int{'<': -1, '=': 0, '>': 1}[expression[at]] {
		return errMissing{expression + fmt.Sprintf(" (it is %d)", a)}
	}
	return nil
}

// fill puts values in the place of variables.
func (r *runner) fill(w string) string {
	return variable.ReplaceAllStringFunc(w, func(m string) string {
		if m == "$$" {
			return "$"
		}
		parts := variable.FindStringSubmatch(m)
		v, ok := r.vars[parts[1]]
		if !ok {
			return m // $share
		}
		if parts[2] == "" {
			return v
		}
		a, err1 := strconv.Atoi(v)
		b, err2 := strconv.Atoi(parts[2])
		if err1 != nil || err2 != nil {
			return v + parts[2]
		}
		return strconv.Itoa(a + b)
	})
}

func (r *runner) fillAll(words []string) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		if v := r.fill(w); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// should notes a recommendation that the server did not follow.
func (r *runner) should(s step, format string, args ...any) {
	r.lax, r.laxWhat = append(r.lax, s), append(r.laxWhat, fmt.Sprintf(format, args...))
}

// tidy ends the connections and takes away what a case left at the server:
// sessions and retained messages. It does its best and tells nobody.
func (r *runner) tidy() {
	for _, c := range r.conns {
		if c.accepted && c.ended == nil {
			c.send([]byte{tDISCONNECT << 4, 0}, time.Second)
		}
		c.close()
	}
	if len(r.retained) > 0 {
		r.ids[""] = true
	}
	for id := range r.ids {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), 2*time.Second)
		if nc, err := r.Dial(ctx, r.addr); err == nil {
			c := newConn("tidy", 4, nc)
			b, _ := encode(4, "CONNECT", []field{{"id", "=", id}})
			c.send(b, time.Second)
			_, err := c.next(ctx, 2*time.Second)
			for topic := range r.retained {
				b, _ := encode(4, "PUBLISH", []field{{"topic", "=", topic}, {"retain", "=", "1"}})
				c.send(b, time.Second)
			}
			if err == nil {
				clear(r.retained)
			}
			c.send([]byte{tDISCONNECT << 4, 0}, time.Second)
			_, _ = c.next(ctx, time.Second)
			c.close()
		}
		cancel()
	}
}
