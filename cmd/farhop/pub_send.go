package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/spf13/cobra"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/routing/interest"
)

const (
	maxRate = 1_000_000 // messages/s
	maxOpen = 1024      // publishes that wait for their acknowledgement with --rate
)

// pubProperties are properties of MQTT 5 (3.3.2.3) that a publish may have.
type pubProperties struct {
	contentType, response, correlation, format string
	user                                       []string // KEY=VALUE
}

func (p *pubProperties) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.contentType, "content-type", "", "content type, such as application/json")
	f.StringVar(&p.format, "format", "", "payload format to declare: text or bytes (default: none)")
	f.StringVar(&p.response, "response-topic", "", "topic for answers")
	f.StringVar(&p.correlation, "correlation", "", "correlation data, as text")
	f.StringArrayVar(&p.user, "user-property", nil, "KEY=VALUE; may be given more than once")
}

func (p *pubProperties) check(c *cobra.Command) error {
	if p.response != "" {
		if err := interest.ValidTopic(p.response); err != nil {
			return usage(c, "--response-topic: %v", err)
		}
	}
	if p.format != "" && p.format != "text" && p.format != "bytes" {
		return usage(c, "--format: %q is not text or bytes", p.format)
	}
	for _, u := range p.user {
		if key, _, ok := strings.Cut(u, "="); !ok || key == "" {
			return usage(c, "--user-property: %q is not KEY=VALUE", u)
		}
	}
	return nil
}

// fill puts them into a packet.
func (p *pubProperties) fill(to *paho.PublishProperties) {
	to.ContentType, to.ResponseTopic = p.contentType, p.response
	if p.correlation != "" {
		to.CorrelationData = []byte(p.correlation)
	}
	if p.format != "" {
		format := byte(0)
		if p.format == "text" {
			format = 1
		}
		to.PayloadFormat = &format
	}
	for _, u := range p.user {
		key, value, _ := strings.Cut(u, "=")
		to.User.Add(key, value)
	}
}

// payloads calls f with one payload after the other, which is f's own, and
// with its name for errors.
func (a *app) payloads(p *pubFlags, payload []byte, f func(what string, payload []byte) error) error {
	if !p.lines {
		for i := range p.count {
			if err := f(fmt.Sprintf("message %d of %d", i+1, p.count), payload); err != nil {
				return err
			}
		}
		return nil
	}
	in := bufio.NewScanner(a.in)
	in.Buffer(nil, maxLine)
	n := 1
	for ; in.Scan(); n++ {
		if err := f(fmt.Sprintf("line %d", n), bytes.Clone(in.Bytes())); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n, err)
	}
	return nil
}

// pubAll publishes all there is: one after the other, or at a rate.
func (a *app) pubAll(ctx context.Context, cl *paho.Client, p *pubFlags, receipts string, payload []byte) error {
	if p.rate > 0 {
		return a.pubRate(ctx, cl, p, receipts, payload)
	}
	first := true
	return a.payloads(p, payload, func(what string, payload []byte) error {
		if !first {
			if err := pause(ctx, p.interval); err != nil {
				return err
			}
		}
		first = false
		if err := a.pubOne(ctx, cl, p, receipts, payload); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

// pubRate publishes without waiting for acknowledgements. It returns when all
// have come, or with the first failure.
func (a *app) pubRate(ctx context.Context, cl *paho.Client, p *pubFlags, receipts string, payload []byte) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var under sync.WaitGroup
	turn := make(chan struct{}, maxOpen)
	began, n := time.Now(), 0
	err := a.payloads(p, payload, func(what string, payload []byte) error {
		due := began.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
		n++
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		under.Go(func() {
			defer func() { <-turn }()
			if err := a.pubOne(ctx, cl, p, receipts, payload); err != nil {
				fail(fmt.Errorf("%s: %w", what, err))
			}
		})
		return nil
	})
	under.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pubOne publishes one message and prints its id.
func (a *app) pubOne(ctx context.Context, cl *paho.Client, p *pubFlags, receipts string, payload []byte) error {
	props := &paho.PublishProperties{}
	p.props.fill(props)
	if p.qos > 0 {
		// The broker answers with the id only where it is asked for.
		props.User.Add(broker.IDProperty, "")
	}
	if p.receipt {
		props.User.Add(receiptProperty, receipts)
	}
	if p.ttl > 0 {
		seconds := uint32(min(max(p.ttl/time.Second, 1), 1<<32-1))
		props.MessageExpiry = &seconds
	}
	began := time.Now()
	if p.latency {
		props.User.Add(sentProperty, strconv.FormatInt(began.UnixNano(), 10))
	}
	resp, err := cl.Publish(ctx, &paho.Publish{Topic: p.topic, QoS: p.qos, Retain: p.retain, Payload: payload, Properties: props})
	if err != nil {
		return publishError(resp, err)
	}
	if resp == nil || p.qos == 0 {
		return nil // QoS 0 has no answer
	}
	if resp.ReasonCode >= 0x80 {
		return publishError(resp, errors.New("refused"))
	}
	p.spans.add(time.Since(began))
	err = a.published(p, resp)
	id := ""
	if resp.Properties != nil {
		id = resp.Properties.User.Get(broker.IDProperty)
	}
	p.book.sent(id, began)
	return err
}

// published prints what the broker said of a message it took.
func (a *app) published(p *pubFlags, resp *paho.PublishResponse) error {
	id := ""
	if resp.Properties != nil {
		id = clean(resp.Properties.User.Get(broker.IDProperty), 0)
	}
	unwanted := resp.ReasonCode == packets.PubackNoMatchingSubscribers
	if !unwanted {
		p.mu.Lock()
		p.taken++
		p.mu.Unlock()
	}
	switch {
	case p.latency:
	case *p.json:
		return printLine(a.out, struct {
			Message      string `json:"message"`
			Topic        string `json:"topic"`
			NoSubscriber bool   `json:"no_subscriber,omitempty"`
		}{id, p.topic, unwanted})
	case unwanted:
		a.note("nobody subscribes to %s, and no route stores it: it was dropped", clean(p.topic, 0))
	case id == "":
		a.note("published, without a message id: only clients that are connected to this broker get it")
	default:
		_, err := fmt.Fprintln(a.out, id)
		return err
	}
	return nil
}

func publishError(resp *paho.PublishResponse, err error) error {
	if resp == nil {
		return fmt.Errorf("publish: %w", err)
	}
	text := (&packets.Puback{ReasonCode: resp.ReasonCode}).Reason()
	if resp.Properties != nil {
		text = join(": ", strings.TrimSuffix(text, "."), resp.Properties.ReasonString)
	}
	hint := "see farhop routes, and what the broker allows"
	switch resp.ReasonCode {
	case packets.PubackQuotaExceeded:
		hint = "farhop status shows how full the store is, farhop queue --quotas on whose account"
	case packets.PubackNotAuthorized:
		hint = "see the access rules of the broker, and --user"
	}
	return failed(hint, "the broker refuses the message (0x%02x): %s", resp.ReasonCode, text)
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
