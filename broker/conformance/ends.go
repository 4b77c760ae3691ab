package conformance

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// quiet wants no packet for a while and then an answer to PINGREQ.
func (r *runner) quiet(c *conn, args []string) error {
	d := r.Quiet
	if len(args) > 0 {
		var err error
		if d, err = time.ParseDuration(args[0]); err != nil {
			return err
		}
	}
	if len(c.pending) > 0 {
		return fmt.Errorf("%s came, want nothing", c.pending[0])
	}
	p, err := c.next(r.ctx, d)
	switch {
	case err == nil:
		return fmt.Errorf("%s came, want nothing", p)
	case !errors.Is(err, errSilent):
		return err
	}
	c.send([]byte{tPINGREQ << 4, 0}, r.Wait)
	_, err = r.expect(c, "PINGRESP", nil, false)
	return err
}

// leave ends a connection from the client's side and waits until the server
// has seen it, so that later steps do not race with it.
func (r *runner) leave(c *conn, politely bool, args []string) error {
	if politely {
		fs, err := fields(args)
		if err != nil {
			return err
		}
		if err := r.send(c, "DISCONNECT", fs); err != nil {
			return err
		}
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the server may have closed it already
	} else {
		_ = c.nc.Close()
	}
	for {
		_, err := c.next(r.ctx, r.Wait)
		var b *breach
		if err != nil && !errors.As(err, &b) {
			c.pending = nil
			return r.ctx.Err()
		}
	}
}

// over wants the connection closed, whatever comes before.
func (r *runner) over(c *conn) error {
	for {
		_, err := c.next(r.ctx, r.Wait)
		var b *breach
		var end errEnded
		switch {
		case errors.As(err, &end):
			return nil
		case err != nil && !errors.As(err, &b):
			return errors.New("the connection was not closed")
		}
	}
}

// gone waits for the server to close the connection, after the last packet.
func (r *runner) gone(c *conn) error {
	p, err := c.next(r.ctx, r.Wait)
	var end errEnded
	switch {
	case errors.As(err, &end):
		var timeout net.Error
		if errors.As(c.ended, &timeout) && timeout.Timeout() {
			return err
		}
		return nil
	case errors.Is(err, errSilent):
		return errors.New("the connection was not closed")
	case err != nil:
		return err
	}
	return fmt.Errorf("%s came, want the connection closed", p)
}

// split sorts the words of close and refused: reason codes of this version,
// and after=DURATION.
func split(version byte, args []string) (codes []int, after time.Duration, err error) {
	for _, w := range args {
		if d, ok := strings.CutPrefix(w, "after="); ok {
			after, err = time.ParseDuration(d)
			if err != nil {
				return nil, 0, err
			}
			continue
		}
		n, err := strconv.ParseUint(w, 0, 8)
		if err != nil {
			return nil, 0, err
		}
		if (n >= 0x80) == (version >= 5) {
			codes = append(codes, int(n))
		}
	}
	return codes, after, nil
}

// closed wants the connection closed; by MQTT 5 a DISCONNECT with one of the
// codes should come before.
func (r *runner) closed(s step, c *conn, args []string) error {
	codes, after, err := split(c.version, args)
	if err != nil {
		return err
	}
	if len(c.pending) > 0 && c.pending[0].kind != tDISCONNECT {
		return fmt.Errorf("%s came, want the connection closed", c.pending[0])
	}
	from := c.lastSend
	_, err = r.expect(c, "DISCONNECT", nil, false)
	var end errEnded
	switch {
	case err == nil:
		if code := c.goodbye.num("code"); len(codes) > 0 && !slices.Contains(codes, code) {
			r.should(s, "DISCONNECT %#x came, want one of %#x", code, codes)
		}
		err = r.gone(c)
	case errors.As(err, &end) && c.goodbye == nil:
		err = nil
		if len(codes) > 0 {
			r.should(s, "the connection was closed without DISCONNECT %#x", codes)
		}
	case errors.Is(err, errSilent):
		return errors.New("the connection was not closed")
	}
	if early := time.Since(from); err == nil && early < after {
		return fmt.Errorf("the connection was closed after %v, before %v", early, after)
	}
	return err
}

// refused wants a CONNECT refused: in MQTT 5 with a CONNACK of one of the
// codes or without any, before it with the code given or else without one.
func (r *runner) refused(s step, c *conn, args []string) error {
	codes, _, err := split(c.version, args)
	if err != nil {
		return err
	}
	p, err := c.next(r.ctx, r.Wait)
	var end errEnded
	switch {
	case errors.As(err, &end) && (len(codes) == 0 || c.version >= 5):
		return nil // in MQTT 5 a server may keep silent
	case errors.Is(err, errSilent):
		return errors.New("no CONNACK came and the connection was not closed")
	case err != nil:
		return err
	case p.kind != tCONNACK || p.num("code") == 0 || c.version < 5 && !slices.Contains(codes, p.num("code")):
		return fmt.Errorf("%s came, want the connection refused", p)
	case len(codes) > 0 && !slices.Contains(codes, p.num("code")):
		r.should(s, "CONNACK %#x came, want one of %#x", p.num("code"), codes)
	}
	return r.gone(c)
}

// barred wants a filter refused: by its code in SUBACK, or by the end of the
// connection.
func (r *runner) barred(s step, c *conn, args []string) error {
	allowed, _, err := split(c.version, args)
	if err != nil {
		return err
	}
	p, err := c.next(r.ctx, r.Wait)
	var end errEnded
	switch {
	case errors.As(err, &end):
		if c.version >= 5 {
			r.should(s, "the connection was closed without DISCONNECT or SUBACK %#x", allowed)
		}
		return nil
	case err != nil:
		return err
	case p.kind == tDISCONNECT:
		c.pending = append(c.pending, p)
		return r.closed(s, c, args)
	case p.kind != tSUBACK:
		return fmt.Errorf("%s came, want the filter refused", p)
	}
	for code := range strings.SplitSeq(p.all("codes")[0], ",") {
		n, _ := strconv.Atoi(code)
		if n < 0x80 {
			return fmt.Errorf("%s came, want the filter refused", p)
		}
		if c.version >= 5 && !slices.Contains(allowed, n) {
			r.should(s, "SUBACK %#x came, want one of %#x", n, allowed)
		}
	}
	return nil
}

// tally waits until two connections have together received the PUBLISH
// packets with the payloads 0 to N-1, each once: CONNECTION N.
func (r *runner) tally(c *conn, args []string) error {
	if len(args) != 2 || r.conns[args[0]] == nil {
		return errors.New("tally needs another connection and a number")
	}
	n, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	both := []*conn{c, r.conns[args[0]]}
	deadline := time.Now().Add(r.Wait)
	for len(seen) < int(n) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d messages came", len(seen), n)
		}
		for _, one := range both {
			p, err := one.next(r.ctx, 20*time.Millisecond)
			if errors.Is(err, errSilent) {
				continue
			}
			if err != nil {
				return err
			}
			payload := p.all("payload")
			if p.kind != tPUBLISH || seen[payload[0]] {
				return fmt.Errorf("%s came once more", p)
			}
			seen[payload[0]] = true
			if p.num("qos") == 1 {
				if err := r.send(one, "PUBACK", []field{{"pid", "=", strconv.Itoa(p.num("pid"))}}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
