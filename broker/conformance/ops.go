package conformance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// operate runs one operation with its words filled in.
func (r *runner) operate(s step, args, then []string) error {
	switch s.op {
	case "open":
		_, err := r.open(s.on, r.version)
		return err
	case "connect":
		return r.connect(s.on, args, then)
	}
	c := r.conns[s.on]
	if c == nil {
		return fmt.Errorf("the connection %s was never opened", s.on)
	}
	switch s.op {
	case ">", "<", "<~", "<|", "!<":
		return r.packet(s, c, args)
	case "raw":
		b, err := rawBytes(args)
		if err == nil {
			c.send(b, r.Wait)
		}
		return err
	case "sub":
		return r.subscribe(c, args, then)
	case "unsub":
		return r.unsubscribe(c, args, then)
	case "pub":
		return r.publish(c, args, then)
	case "may":
		return r.mayPublish(c, args)
	case "recv", "recv~":
		return r.receive(c, args, s.op == "recv~")
	case "quiet":
		return r.quiet(c, args)
	case "ping":
		c.send([]byte{tPINGREQ << 4, 0}, r.Wait)
		_, err := r.expect(c, "PINGRESP", nil, true)
		return err
	case "kill", "disconnect":
		return r.leave(c, s.op == "disconnect", args)
	case "close":
		return r.closed(s, c, args)
	case "over":
		return r.over(c)
	case "barred":
		return r.barred(s, c, args)
	case "tally":
		return r.tally(c, args)
	}
	return r.refused(s, c, args)
}

// packet sends or expects a packet that the case spells out.
func (r *runner) packet(s step, c *conn, args []string) error {
	fs, err := fields(args[1:])
	if err != nil {
		return err
	}
	switch s.op {
	case ">":
		return r.send(c, args[0], fs)
	case "!<":
		return r.without(c, args[0], fs)
	}
	_, err = r.expect(c, args[0], fs, s.op == "<~")
	if end := (errEnded{}); s.op == "<|" && errors.As(err, &end) {
		return nil
	}
	return err
}

// open makes a connection; one of the same name before it is over.
func (r *runner) open(name string, version byte) (*conn, error) {
	if old := r.conns[name]; old != nil {
		old.close()
	}
	nc, err := r.Dial(r.ctx, r.addr)
	if err != nil {
		delete(r.conns, name)
		return nil, err
	}
	c := newConn(name, version, nc)
	c.id = r.vars["c"] + name
	r.conns[name] = c
	return c, nil
}

func (r *runner) connect(name string, args, then []string) error {
	version := r.version
	args = slices.DeleteFunc(args, func(w string) bool {
		v, ok := strings.CutPrefix(w, "version=")
		if n, err := strconv.ParseUint(v, 10, 8); ok && err == nil {
			version = byte(n)
		}
		return ok
	})
	fs, err := fields(args)
	if err != nil {
		return err
	}
	want, err := fields(then)
	if err != nil {
		return err
	}
	c, err := r.open(name, version)
	if err != nil {
		return err
	}
	if err := r.send(c, "CONNECT", fs); err != nil {
		return err
	}
	if !slices.ContainsFunc(want, func(f field) bool { return f.key == "code" }) {
		want = append(want, field{"code", "=", "0"})
	}
	_, err = r.expect(c, "CONNACK", want, false)
	return err
}

// send encodes a packet and writes it. A CONNECT gets a client identifier
// that no other run has, or with id=@NAME that of another connection.
func (r *runner) send(c *conn, name string, fs []field) error {
	switch name {
	case "CONNECT":
		fs = r.introduce(c, fs)
	case "PUBLISH":
		topic, retain := "", false
		for _, f := range fs {
			if f.key == "topic" {
				topic = f.value
			}
			retain = retain || f.key == "retain" && f.value == "1"
		}
		if retain && strings.HasPrefix(topic, r.vars["t"]) {
			r.retained[topic] = true
		}
	default:
		c.answered(name, fs)
	}
	b, err := encode(c.version, name, fs)
	if err == nil {
		c.send(b, r.Wait)
	}
	return err
}

// introduce fills in the client identifier and notes what CONNECT promises.
func (r *runner) introduce(c *conn, fs []field) []field {
	hasID := false
	persistent := false
	for i, f := range fs {
		n, _ := strconv.ParseUint(f.value, 0, 32) // 0 for what is no number
		switch f.key {
		case "id":
			if other, ok := strings.CutPrefix(f.value, "@"); ok {
				fs[i].value = r.vars["c"] + other
			}
			c.id, hasID = fs[i].value, true
		case "receive-maximum":
			c.rm = int(n)
		case "maximum-packet":
			c.mps = int(n)
		case "alias-maximum":
			c.tam = int(n)
		case "request-problem":
			c.problem = n != 0
		case "auth-method":
			c.auth = true
		case "session-expiry":
			persistent = persistent || n > 0
		case "clean":
			persistent = persistent || n == 0 && c.version < 5
		case "will":
			r.retained[f.value] = strings.HasPrefix(f.value, r.vars["t"])
		}
	}
	if !hasID {
		fs = append(fs, field{"id", "=", c.id})
	}
	if persistent && c.id != "" {
		r.ids[c.id] = true
	}
	return fs
}

// expect waits for a packet. In order, it must be the next one; else others
// are kept for later steps.
func (r *runner) expect(c *conn, name string, want []field, anyOrder bool) (received, error) {
	var why string
	for i := 0; ; i++ {
		if i == len(c.pending) {
			p, err := c.next(r.ctx, r.Wait)
			switch {
			case errors.Is(err, errSilent):
				return p, fmt.Errorf("%w%s", err, r.besides(c, why))
			case err != nil:
				return p, fmt.Errorf("%w%s", err, r.besides(c, why))
			}
			c.pending = append(c.pending, p)
		}
		p := c.pending[i]
		text, bind := matches(p, name, want, r.vars)
		if text == "" {
			maps.Copy(r.vars, bind)
			c.pending = slices.Delete(c.pending, i, i+1)
			return p, nil
		}
		if !anyOrder {
			return p, fmt.Errorf("%s: %s came", text, p)
		}
		if typeNames[p.kind] == name {
			why = text
		}
	}
}

// besides tells what came and was not expected.
func (r *runner) besides(c *conn, why string) string {
	if len(c.pending) == 0 {
		return ""
	}
	if why != "" {
		why = ", " + why
	}
	return fmt.Sprintf("; besides %s%s", c.pending[0], why)
}

// without fails when a packet has come that must not.
func (r *runner) without(c *conn, name string, want []field) error {
	for _, p := range c.pending {
		if text, _ := matches(p, name, want, r.vars); text == "" {
			return fmt.Errorf("%s came", p)
		}
	}
	return nil
}

func (r *runner) nextPID() string {
	r.pid++
	return strconv.Itoa(r.pid)
}

// subscribe sends SUBSCRIBE and waits for the QoS that was asked for.
func (r *runner) subscribe(c *conn, args, then []string) error {
	pid := r.nextPID()
	fs := []field{{"pid", "=", pid}}
	var granted []string
	for _, w := range args {
		key, v, ok := strings.Cut(w, "=")
		if _, isProperty := byName(key); ok && isProperty {
			fs = append(fs, field{key, "=", v})
			continue
		}
		name, options, _ := strings.Cut(w, ",")
		qos, _, _ := strings.Cut(options, ",")
		fs = append(fs, field{"filter", "=", plain(name) + "," + options})
		granted = append(granted, cmpOr(qos, "0"))
	}
	return r.ask(c, "SUBSCRIBE", "SUBACK", pid, fs, then, "codes="+strings.Join(granted, ","))
}

func (r *runner) unsubscribe(c *conn, args, then []string) error {
	pid := r.nextPID()
	fs := []field{{"pid", "=", pid}}
	for _, w := range args {
		fs = append(fs, field{"filter", "=", plain(w)})
	}
	otherwise := "codes=" + strings.TrimSuffix(strings.Repeat("0,", len(args)), ",")
	if c.version < 5 {
		otherwise = "codes="
	}
	return r.ask(c, "UNSUBSCRIBE", "UNSUBACK", pid, fs, then, otherwise)
}

// ask sends a request and waits for its answer, in any order with deliveries.
func (r *runner) ask(c *conn, request, answer, pid string, fs []field, then []string, otherwise string) error {
	if len(then) == 0 && otherwise != "" {
		then = []string{otherwise}
	}
	want, err := fields(then)
	if err != nil {
		return err
	}
	if err := r.send(c, request, fs); err != nil {
		return err
	}
	p, err := r.expect(c, answer, []field{{"pid", "=", pid}}, true)
	if err != nil {
		return err
	}
	text, bind := matches(p, answer, want, r.vars)
	if text != "" {
		return fmt.Errorf("%s: %s came", text, p)
	}
	maps.Copy(r.vars, bind)
	return nil
}

// publish sends PUBLISH and sees its acknowledgements through.
func (r *runner) publish(c *conn, args, then []string) error {
	if len(args) == 0 {
		return errors.New("pub needs a topic")
	}
	fs, err := fields(args[1:])
	if err != nil {
		return err
	}
	fs = append([]field{{"topic", "=", plain(args[0])}}, fs...)
	qos, pid := "0", ""
	for _, f := range fs {
		if f.key == "qos" {
			qos = f.value
		}
		if f.key == "pid" {
			pid = f.value
		}
	}
	if qos == "0" {
		return r.send(c, "PUBLISH", fs)
	}
	if pid == "" {
		pid = r.nextPID()
		fs = append(fs, field{"pid", "=", pid})
	}
	good := ""
	if c.version >= 5 {
		good = "code=0|0x10"
	}
	if qos == "1" {
		return r.ask(c, "PUBLISH", "PUBACK", pid, fs, then, good)
	}
	if err := r.ask(c, "PUBLISH", "PUBREC", pid, fs, then, good); err != nil {
		return err
	}
	return r.ask(c, "PUBREL", "PUBCOMP", pid, []field{{"pid", "=", pid}}, nil, strings.TrimSuffix(good, "|0x10"))
}

// mayPublish publishes what a server may refuse; then the case is skipped.
func (r *runner) mayPublish(c *conn, args []string) error {
	err := r.publish(c, args, nil)
	var b *breach
	if err == nil || errors.As(err, &b) {
		return err
	}
	return errMissing{"publishing to " + plain(args[0])}
}

// receive waits for a PUBLISH and acknowledges it.
func (r *runner) receive(c *conn, args []string, anyOrder bool) error {
	want, err := fields(args)
	if err != nil {
		return err
	}
	p, err := r.expect(c, "PUBLISH", want, anyOrder)
	if err != nil {
		return err
	}
	pid := []field{{"pid", "=", strconv.Itoa(p.num("pid"))}}
	switch p.num("qos") {
	case 1:
		return r.send(c, "PUBACK", pid)
	case 2:
		if err := r.send(c, "PUBREC", pid); err != nil {
			return err
		}
		if _, err := r.expect(c, "PUBREL", pid, true); err != nil {
			return err
		}
		return r.send(c, "PUBCOMP", pid)
	}
	return nil
}
