package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// event is what a server did: a packet, a breach of a rule that holds always,
// or the end of the connection.
type event struct {
	packet received
	breach *breach
	end    error // why nothing more comes; nil = more may
}

// conn is one connection of a case. A goroutine reads; everything else
// belongs to the one that runs the case.
type conn struct {
	name    string
	version byte
	nc      net.Conn
	events  chan event
	stop    chan struct{} // closed when nobody reads events any more
	done    chan struct{} // closed when the reader has ended

	pending  []received // read but not yet expected by a step
	ended    error
	lastSend time.Time

	id             string
	rm, mps, tam   int // Receive Maximum, Maximum Packet Size and Topic Alias Maximum that CONNECT gave
	auth, accepted bool
	problem        bool // Request Problem Information is not 0
	goodbye        *received
	open           map[int]bool // identifiers that the server uses; true = counts against Receive Maximum
	aliases        map[int]string
}

// window bounds the events that wait for the case to ask for them. A server
// that sends more waits in its socket.
const window = 1024

func newConn(name string, version byte, nc net.Conn) *conn {
	c := &conn{
		name: name, version: version, nc: nc, lastSend: time.Now(),
		events: make(chan event, window), stop: make(chan struct{}), done: make(chan struct{}),
		rm: 65535, problem: true, open: map[int]bool{}, aliases: map[int]string{},
	}
	go c.read()
	return c
}

// read passes packets on until the connection ends. Close ends it.
func (c *conn) read() {
	defer close(c.done)
	r := bufio.NewReader(c.nc)
	for {
		ev := c.readOne(r)
		select {
		case c.events <- ev:
		case <-c.stop:
			return
		}
		if ev.end != nil {
			return
		}
	}
}

func (c *conn) readOne(r *bufio.Reader) event {
	first, err := r.ReadByte()
	if err != nil {
		return event{end: err}
	}
	n, header := 0, 1
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return event{end: err}
		}
		n |= int(b&127) << shift
		header++
		if b < 128 {
			break
		}
		if shift == 21 {
			return event{end: errors.New("a remaining length of more than four bytes")}
		}
	}
	if n > maxBody {
		return event{end: fmt.Errorf("a packet of %d bytes", n)}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return event{end: err}
	}
	p, breach := decode(c.version, first, header, body)
	return event{packet: p, breach: breach}
}

// close ends the connection and its reader.
func (c *conn) close() {
	close(c.stop)
	_ = c.nc.Close() // the case is over; nobody is left to tell
	<-c.done
}

// send writes bytes. That the server has closed the connection is told by the
// next read.
func (c *conn) send(b []byte, wait time.Duration) {
	c.lastSend = time.Now()
	_ = c.nc.SetWriteDeadline(c.lastSend.Add(wait))
	_, _ = c.nc.Write(b)
}

// next waits for the server's next packet. It gives an error when the
// connection ended, a rule was broken, or nothing came.
func (c *conn) next(ctx context.Context, wait time.Duration) (received, error) {
	if c.ended != nil {
		return received{}, errEnded{c}
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return received{}, ctx.Err()
	case <-t.C:
		return received{}, errSilent
	case ev := <-c.events:
		if ev.end != nil {
			c.ended = ev.end
			return received{}, errEnded{c}
		}
		if ev.breach != nil {
			return ev.packet, ev.breach
		}
		if b := c.watch(&ev.packet); b != nil {
			return ev.packet, b
		}
		return ev.packet, nil
	}
}

var errSilent = errors.New("nothing came")

// errEnded says that the server closed the connection.
type errEnded struct{ c *conn }

func (e errEnded) Error() string {
	if e.c.goodbye != nil {
		return "the connection was closed after " + e.c.goodbye.String()
	}
	return fmt.Sprintf("the connection was closed (%v)", e.c.ended)
}

// watch holds a packet against the rules that no packet may break, whatever
// the case, and notes what later ones depend on.
func (c *conn) watch(p *received) *breach {
	bad := func(five, three, format string, args ...any) *breach {
		return &breach{clause(c.version, five, three), fmt.Sprintf(format, args...)}
	}
	name := typeNames[p.kind]
	switch {
	case c.goodbye != nil:
		return bad("3.14.4-1", "", "%s after DISCONNECT", name)
	case c.mps > 0 && p.size > c.mps:
		return bad("3.1.2-24", "", "%s of %d bytes, the client takes %d", name, p.size, c.mps)
	case p.kind == tAUTH && !c.auth:
		return bad("4.12.0-6", "", "AUTH, though CONNECT had no Authentication Method")
	case p.kind == tCONNACK && c.accepted:
		return bad("3.2.0-2", "", "a second CONNACK")
	case p.kind == tDISCONNECT && !c.accepted:
		return bad("3.14.0-1", "", "DISCONNECT before CONNACK")
	case p.kind != tCONNACK && p.kind != tAUTH && !c.accepted:
		return bad("3.2.0-1", "3.2.0-1", "%s before CONNACK", name)
	case !c.problem && p.kind != tCONNACK && p.kind != tPUBLISH && p.kind != tDISCONNECT &&
		len(p.all("reason-string"))+len(p.all("user-property")) > 0:
		return bad("3.1.2-29", "", "%s with a Reason String or User Property that the client did not want", name)
	}
	switch p.kind {
	case tCONNACK:
		c.accepted = p.num("code") == 0
		if !c.auth && len(p.all("auth-method")) > 0 {
			return bad("4.12.0-6", "", "CONNACK with an Authentication Method, CONNECT had none")
		}
	case tDISCONNECT:
		c.goodbye = p
	case tPUBREL:
		c.open[p.num("pid")] = c.open[p.num("pid")]
	case tPUBLISH:
		return c.watchPublish(p, bad)
	}
	return nil
}

func (c *conn) watchPublish(p *received, bad func(five, three, format string, args ...any) *breach) *breach {
	if p.num("qos") > 0 {
		id := p.num("pid")
		if _, used := c.open[id]; used {
			if p.num("dup") == 1 {
				if c.version >= 5 {
					return bad("4.4.0-1", "", "PUBLISH %d again on the same connection", id)
				}
				return nil
			}
			return bad("2.2.1-4", "2.3.1-4", "a new PUBLISH with the identifier %d, which is in use", id)
		}
		c.open[id] = true
		n := 0
		for _, counts := range c.open {
			if counts {
				n++
			}
		}
		if c.version >= 5 && n > c.rm {
			return bad("3.3.4-9", "", "%d PUBLISH packets unacknowledged, Receive Maximum is %d", n, c.rm)
		}
	}
	if alias := p.num("alias"); alias > 0 {
		if alias > c.tam {
			return bad("3.1.2-26", "", "topic alias %d, Topic Alias Maximum is %d", alias, c.tam)
		}
		for i, v := range p.values {
			switch {
			case v.key == "topic" && v.text != "":
				c.aliases[alias] = v.text
			case v.key == "topic" && c.aliases[alias] == "":
				return bad("3.3.2-7", "", "topic alias %d, which this connection never saw", alias)
			case v.key == "topic":
				p.values[i].text = c.aliases[alias]
			}
		}
		return nil
	}
	if topic := p.all("topic"); topic[0] == "" {
		return bad("4.7.3-1", "4.7.3-1", "PUBLISH without a topic")
	}
	return nil
}

// answered notes an acknowledgement that the client sends: identifiers become
// free by it.
func (c *conn) answered(name string, fields []field) {
	pid, code := 0, 0
	for _, f := range fields {
		n, err := strconv.ParseUint(f.value, 0, 32)
		if err != nil {
			continue
		}
		switch f.key {
		case "pid":
			pid = int(n)
		case "code":
			code = int(n)
		}
	}
	if name == "PUBACK" || name == "PUBCOMP" || name == "PUBREC" && code >= 0x80 {
		delete(c.open, pid)
	}
}
