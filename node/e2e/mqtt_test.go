//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const installMosquitto = "install the mosquitto clients: apt-get install mosquitto-clients"

// client is a running mosquitto_sub or mosquitto_pub.
type client struct {
	t     *testing.T
	what  string
	out   string // file with its output
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
	errs  bytes.Buffer // read only after ended
}

func mosquitto(t *testing.T, program string, d *daemon, stdin io.Reader, args ...string) *client {
	t.Helper()
	path := need(t, program, installMosquitto)
	host, port, _ := net.SplitHostPort(d.mqtt)
	c := &client{t: t, what: fmt.Sprintf("%s %v at %s", program, args, d.name), out: filepath.Join(t.TempDir(), "out"), ended: make(chan struct{})}
	f, err := os.Create(c.out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.cmd = exec.Command(path, append([]string{"-h", host, "-p", port}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = f, &c.errs
	if stdin != nil {
		c.cmd.Stdin = stdin
	}
	if err := start(c.cmd); err != nil {
		t.Fatal(err)
	}
	go func() { c.err = c.cmd.Wait(); close(c.ended) }()
	t.Cleanup(c.kill)
	return c
}

func (c *client) kill() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	<-c.ended
}

// done waits for the end of a client that ends by itself.
func (c *client) done() {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.t.Fatalf("%s did not end in %s", c.what, patience)
	}
	if c.err != nil {
		c.t.Fatalf("%s: %v\n%s", c.what, c.err, c.errs.String())
	}
}

// lines are the messages received so far.
func (c *client) lines() []string {
	data, err := os.ReadFile(c.out)
	if err != nil {
		c.t.Fatal(err)
	}
	all := strings.Split(string(data), "\n")
	return all[:len(all)-1] // what follows the last newline is not complete
}

// subscribe starts a subscriber with a session that outlives its connection
// and waits until the session is there.
func subscribe(d *daemon, id, filter string, qos int) *client {
	d.t.Helper()
	c := mosquitto(d.t, "mosquitto_sub", d, nil, "-c", "-i", id, "-t", filter, "-q", fmt.Sprint(qos))
	d.knows(d, filter)
	return c
}

// publish sends messages from one publisher and waits until all are
// acknowledged.
func publish(d *daemon, topic string, qos int, messages ...string) {
	d.t.Helper()
	stream(d, "", topic, qos, 0, messages...).done()
}

// stream starts a publisher that pauses after each message; with an id, one
// with a session that outlives its connection.
func stream(d *daemon, id, topic string, qos int, pause time.Duration, messages ...string) *client {
	d.t.Helper()
	args := []string{"-l", "-t", topic, "-q", fmt.Sprint(qos)}
	if id != "" {
		args = append(args, "-c", "-i", id)
	}
	// The pipe is fed line by line: a publisher on which a node dies must have
	// more to say afterwards.
	r, w, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		for _, m := range messages {
			if _, err := fmt.Fprintln(w, m); err != nil {
				return // the publisher has ended
			}
			if pause > 0 {
				time.Sleep(pause)
			}
		}
	}()
	return mosquitto(d.t, "mosquitto_pub", d, r, args...)
}

// numbered makes n messages.
func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return out
}

// tally counts messages received against those sent.
type tally struct {
	missing, repeated, foreign []string
	repeats                    int  // how many copies too many
	ordered                    bool // first copies came in the order of sending
}

func compare(sent, received []string) tally {
	r := tally{ordered: true}
	at := make(map[string]int, len(sent))
	for i, m := range sent {
		at[m] = i
	}
	count, last := make(map[string]int), -1
	for _, m := range received {
		i, known := at[m]
		if !known {
			r.foreign = append(r.foreign, m)
			continue
		}
		if count[m]++; count[m] == 1 {
			r.ordered = r.ordered && i > last
			last = i
		} else {
			r.repeats++
			r.repeated = append(r.repeated, m)
		}
	}
	for _, m := range sent {
		if count[m] == 0 {
			r.missing = append(r.missing, m)
		}
	}
	return r
}

func (r tally) String() string {
	return fmt.Sprintf("%d missing %s, %d repeats %s, %d foreign %s, in order: %t", len(r.missing), some(r.missing),
		r.repeats, some(r.repeated), len(r.foreign), some(r.foreign), r.ordered)
}

func some(list []string) string { return fmt.Sprintf("%.200s", fmt.Sprint(list)) }

// receive waits until all that was sent has come, and returns the tally.
func (c *client) receive(sent []string) tally {
	c.t.Helper()
	var r tally
	until(c.t, func() string { return fmt.Sprintf("%d messages at %s: %s", len(sent), c.what, r) }, func() bool {
		select {
		case <-c.ended:
			c.t.Fatalf("%s ended: %v\n%s", c.what, c.err, c.errs.String())
		default:
		}
		r = compare(sent, c.lines())
		return len(r.missing) == 0
	})
	return r
}

// once checks that each message came once, in order, and nothing else.
func (c *client) once(sent []string) {
	c.t.Helper()
	if r := c.receive(sent); r.repeats > 0 || len(r.foreign) > 0 || !r.ordered {
		c.t.Errorf("%s: %s", c.what, r)
	}
}
