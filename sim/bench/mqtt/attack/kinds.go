package attack

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
)

// kinds are all attacks.
func kinds() []kind {
	return []kind{
		{"slow-readers", 120, slowReader(hello{}, 0)},
		{"slow-readers-durable", 20, slowReader(hello{persistent: true}, 1)},
		{"half-open", 2000, halfOpen},
		{"id-thieves", 16, idThief},
		{"topic-bombs", 6, topicBomb},
		{"wildcard-storm", 24, wildcardStorm},
		{"retained-flood", 6, retainedFlood},
		{"reconnects", 200, reconnect(false)},
		{"reconnects-will", 200, reconnect(true)},
		{"huge-before-login", 32, hugeBeforeLogin},
		{"big-publishes", 6, bigPublish},
		{"loris-subscribe", 16, loris},
		{"malformed", 32, malformed},
		{"publish-flood", 12, publishFlood},
		{"unread-answers", 50, unreadAnswers},
		{"session-flood", 32, sessionFlood},
	}
}

func (a *attacker) name(what string, i int) string { return fmt.Sprintf("x-%s-%s-%d", a.run, what, i) }

// slowReader subscribes to everything and reads nothing; the first two publish
// as fast as they can, so that there is something not to read.
func slowReader(h hello, qos byte) func(context.Context, *attacker, int) error {
	return func(ctx context.Context, a *attacker, i int) error {
		h := h
		h.id = a.name("slow", i)
		c, err := a.login(ctx, h)
		if err != nil {
			return err
		}
		defer c.close()
		if i < 2 {
			go c.swallow() // ends with the connection
			b := publish("hostile/flood", qos, false, 1, make([]byte, 256))
			for {
				if err := c.write(b); err != nil {
					return err
				}
			}
		}
		if err := c.write(subscribe(qos, "#")); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
}

// halfOpen opens a connection and says nothing, half a CONNECT byte by byte, or
// a CONNECT and nothing more.
func halfOpen(ctx context.Context, a *attacker, i int) error {
	c, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	hello := connect(hello{id: a.name("half", i)})
	switch i % 3 {
	case 1:
		hello = hello[:len(hello)/2]
		for at := range hello {
			if err := c.write(hello[at : at+1]); err != nil {
				return err
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil
			}
		}
	case 2:
		if err := c.write(hello); err != nil {
			return err
		}
	}
	c.swallow()
	return nil
}

// idThief takes over an id that another has, in a loop.
func idThief(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("id", i/2), persistent: i%4 < 2})
	if err != nil {
		return err
	}
	c.close()
	return nil
}

// topicBomb publishes to topics that nobody ever used: short ones, deep ones,
// and as long as they can be.
func topicBomb(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("bomb", i)})
	if err != nil {
		return err
	}
	defer c.close()
	go c.swallow() // ends with the connection
	if i == 0 {
		if err := c.write(subscribe(0, "bomb/#", "+/+/#", "bomb/+/+/#")); err != nil {
			return err
		}
	}
	for n := 0; ; n++ {
		topic := fmt.Sprintf("bomb/%d/%d", i, n)
		switch i % 3 {
		case 1:
			topic += strings.Repeat("/a", 120)
		case 2:
			topic += "/" + strings.Repeat("long", 15_000)
		}
		if err := c.write(publish(topic, 0, false, 0, []byte("x"))); err != nil {
			return err
		}
	}
}

// wildcardStorm subscribes to thousands of filters that overlap and
// unsubscribes again, in a loop; every fourth client publishes to them.
func wildcardStorm(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("storm", i)})
	if err != nil {
		return err
	}
	defer c.close()
	if i%4 == 0 {
		go c.swallow() // ends with the connection
		for n := 0; ; n++ {
			topic := fmt.Sprintf("w/a/a/a/a/a/a/a/a/a/%d", n)
			if err := c.write(publish(topic, 0, false, 0, []byte("x"))); err != nil {
				return err
			}
		}
	}
	var filters []string
	for n := range 1 << 10 {
		f := []string{"w"}
		for bit := range 10 {
			f = append(f, []string{"a", "+"}[n>>bit&1])
		}
		filters = append(filters, strings.Join(f, "/")+"/#")
	}
	for {
		if err := c.write(subscribe(0, filters...)); err != nil {
			return err
		}
		if err := c.await(load.Suback); err != nil {
			return err
		}
		if err := c.write(unsubscribe(2, filters...)); err != nil {
			return err
		}
		if err := c.await(0xB0); err != nil {
			return err
		}
	}
}

// retainedFlood keeps a message for one new topic after the other.
func retainedFlood(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("keep", i)})
	if err != nil {
		return err
	}
	defer c.close()
	const window = 200
	payload := make([]byte, 100<<(i%3*3)) // 100 B, 800 B, 6.4 kB
	for n := 0; ; n++ {
		if err := c.write(publish(fmt.Sprintf("keep/%s/%d/%s", a.run, i, rand.Text()), 1, true, uint16(1+n%60_000), payload)); err != nil {
			return err
		}
		if n < window {
			continue
		}
		if err := c.await(load.Puback); err != nil {
			a.denied.Add(1)
			return err
		}
	}
}

// reconnect connects and leaves, in a loop; or with a will and a subscription,
// and without a word.
func reconnect(will bool) func(context.Context, *attacker, int) error {
	return func(ctx context.Context, a *attacker, i int) error {
		h := hello{id: a.name("again", i)}
		if will {
			h.will = "wills/" + h.id
		}
		c, err := a.login(ctx, h)
		if err != nil {
			return err
		}
		defer c.close()
		if !will {
			return c.write([]byte{load.Disconnect, 0})
		}
		if err := c.write(subscribe(1, "again/"+h.id+"/+/#")); err != nil {
			return err
		}
		return c.await(load.Suback)
	}
}

// hugeBeforeLogin announces 200 MB and sends them, as far as it can.
func hugeBeforeLogin(ctx context.Context, a *attacker, i int) error {
	c, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	first := []byte{load.Connect, load.Publish}[i%2]
	if i%4 == 2 { // as much as is allowed, and never the end
		b := connect(hello{id: strings.Repeat("x", 60_000)})
		b = append(header(load.Connect, 250_000), b[4:]...)
		b = append(b, make([]byte, 150_000)...)
		if err := c.write(b); err != nil {
			return err
		}
		c.swallow()
		return nil
	}
	if err := c.write([]byte{first, 0x80, 0x84, 0xAF, 0x5F}); err != nil {
		return err
	}
	for range 200 {
		if err := c.write(make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	return nil
}

// bigPublish sends messages of nearly the largest size as fast as it can: to a
// subscriber of its own, to nobody, and never to their end.
func bigPublish(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("big", i)})
	if err != nil {
		return err
	}
	defer c.close()
	b := publish(fmt.Sprintf("big/%d", i%3), byte(i%2), false, 7, make([]byte, 1_000_000))
	if i == 5 {
		if err := c.write(b[:900_000]); err != nil {
			return err
		}
		c.swallow()
		return nil
	}
	if i == 0 {
		if err := c.write(subscribe(1, "big/#")); err != nil {
			return err
		}
	}
	go c.swallow() // ends with the connection
	for {
		if err := c.write(b); err != nil {
			return err
		}
	}
}

// loris subscribes to as many filters as one packet holds: the same ones, over
// and over, and slowly.
func loris(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("loris", i), persistent: i%4 == 3})
	if err != nil {
		return err
	}
	defer c.close()
	var filters []string
	for n := range 20_000 {
		filters = append(filters, fmt.Sprintf("l/%d", n%(999+i%3)))
	}
	b := subscribe(1, filters...)
	if i%2 == 1 { // whole, then again
		for {
			if err := c.write(b); err != nil {
				return err
			}
			if err := c.await(load.Suback); err != nil {
				return err
			}
		}
	}
	for len(b) > 0 {
		n := min(1<<10, len(b))
		if err := c.write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
	return c.await(load.Suback)
}

// malformed sends what is no packet, in turn before and after a CONNECT.
func malformed(ctx context.Context, a *attacker, i int) error {
	bad := [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		{0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F},
		{0x30, 0x80, 0x80, 0x80, 0x80, 0x01},
		{0x36, 6, 0, 1, 'a', 0, 1, 0},
		{0x82, 2, 0, 1},
		{0x30, 5, 0, 1, '#', 'h', 'i'},
		{0xF0, 0},
		{0x62, 0},
		{0x00, 0},
		{0x30, 6, 0, 2, 0xC3, 0x28, 'h', 'i'},
		{0xC0, 1, 0},
		{0x20, 2, 0, 0},
	}
	var c *client
	var err error
	if i%2 == 0 {
		c, err = a.open(ctx)
	} else {
		c, err = a.login(ctx, hello{id: a.name("bad", i), v5: i%4 == 1})
	}
	if err != nil {
		return err
	}
	defer c.close()
	var pick [1]byte
	_, _ = rand.Read(pick[:])
	if err := c.write(bad[int(pick[0])%len(bad)]); err != nil {
		return err
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	c.swallow()
	return nil
}

// publishFlood sends small messages as fast as it can: to nobody, and to the
// others of its kind.
func publishFlood(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("flood", i)})
	if err != nil {
		return err
	}
	defer c.close()
	if i%2 == 1 {
		if err := c.write(subscribe(0, "flood/#")); err != nil {
			return err
		}
	}
	go c.swallow() // ends with the connection
	var b []byte
	for range 1000 {
		b = append(b, publish([]string{"nobody/at/all", "flood/all"}[i%2], 0, false, 0, []byte("x"))...)
	}
	for {
		if err := c.write(b); err != nil {
			return err
		}
	}
}

// unreadAnswers asks and never reads what is answered.
func unreadAnswers(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("deaf", i)})
	if err != nil {
		return err
	}
	defer c.close()
	ask := []byte(strings.Repeat("\xC0\x00", 2000))
	if i%2 == 1 {
		ask = publish("nobody/at/all", 1, false, 9, nil)
		ask = []byte(strings.Repeat(string(ask), 500))
	}
	for {
		if err := c.write(ask); err != nil {
			return err
		}
	}
}

// sessionFlood leaves one session after the other behind, for ever.
func sessionFlood(ctx context.Context, a *attacker, i int) error {
	c, err := a.login(ctx, hello{id: a.name("left", i) + rand.Text(), persistent: true})
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.write(subscribe(1, "left/"+rand.Text()+"/#")); err != nil {
		return err
	}
	return c.await(load.Suback)
}
