package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/spf13/cobra"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/routing/interest"
)

// maxPayload is what an MQTT packet can carry at most, in bytes (MQTT 5, 2.1.4);
// the broker's own limit is smaller.
const maxPayload = 255 << 20

// maxLine bounds one line of farhop pub --lines, in bytes.
const maxLine = 16 << 20

// pubFlags are the flags of farhop pub.
type pubFlags struct {
	broker          brokerFlags
	topic           string
	message, file   string
	lines           bool
	qos             uint8
	retain          bool
	count           int
	interval, ttl   time.Duration
	client          string
	receipt         bool
	book            *receipts
	receipts        int
	wait            time.Duration
	json            *bool
	payloadFromFlag bool
	taken           int // messages that somebody wants
}

func (a *app) pubCmd() *cobra.Command {
	var p pubFlags
	c := &cobra.Command{
		Use:     "pub -t TOPIC (-m MESSAGE | -f FILE | -l)",
		GroupID: groupMessages,
		Short:   "Publish messages",
		Long: `Publish to the node's own broker, as any MQTT client could. With QoS 1 or 2 each
message that the node has taken is answered with its id, which is printed, one a
line; farhop why finds it by that id.

The payload is a text (-m), a file (-f, - for standard input), or one message for
each line of standard input (-l). --count sends it again and again.

With --receipt the node that hands the message to its recipients is asked to say
so: each receipt is printed with the node, the reason (ok, or why it ended) and
the time since it was published, until --wait is over or --receipts have come.
A message has one receipt for each consuming node. Exit code 5: there was none.`,
		Example: "  farhop pub -t plant/1/temp -m 21.5\n  farhop pub -t plant/1/log -l < log.txt\n  farhop pub -t cmd/7 -m open --receipt --wait 10m",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringVarP(&p.topic, "topic", "t", "", "topic to publish to")
	f.StringVarP(&p.message, "message", "m", "", "payload")
	f.StringVarP(&p.file, "file", "f", "", "file that is the payload, - for standard input")
	f.BoolVarP(&p.lines, "lines", "l", false, "one message for each line of standard input")
	f.Uint8VarP(&p.qos, "qos", "q", 1, "0, 1 or 2")
	f.BoolVar(&p.retain, "retain", false, "keep it for later subscribers")
	f.IntVar(&p.count, "count", 1, "how often to publish the payload")
	f.DurationVar(&p.interval, "interval", 0, "pause between two messages")
	f.DurationVar(&p.ttl, "ttl", 0, "lifetime, after which it expires undelivered (default: delivery.ttl of the node)")
	f.StringVar(&p.client, "client", "", "MQTT client id (default: a random one)")
	f.BoolVar(&p.receipt, "receipt", false, "ask for receipts and print them")
	f.IntVar(&p.receipts, "receipts", 0, "end once this many receipts have come (default: wait on)")
	f.DurationVar(&p.wait, "wait", time.Minute, "how long to wait for receipts")
	p.json = f.Bool("json", false, "print JSON, one value a line")
	p.broker.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := p.check(c); err != nil {
			return err
		}
		return a.pub(c, &p)
	}
	return c
}

func (p *pubFlags) check(c *cobra.Command) error {
	if err := need(c, "topic"); err != nil {
		return err
	}
	if err := interest.ValidTopic(p.topic); err != nil {
		return usage(c, "--topic: %v", err)
	}
	given := 0
	for _, name := range []string{"message", "file", "lines"} {
		if c.Flags().Changed(name) {
			given++
		}
	}
	p.payloadFromFlag = c.Flags().Changed("message")
	if c.Flags().Changed("receipts") {
		p.receipt = true
	}
	switch {
	case given != 1:
		return usage(c, "farhop pub needs one of --message, --file and --lines")
	case p.qos > 2:
		return usage(c, "--qos: %d is not 0, 1 or 2", p.qos)
	case p.count < 1:
		return usage(c, "--count: %d is not positive", p.count)
	case p.lines && p.count > 1:
		return usage(c, "--count cannot be used with --lines")
	case p.receipt && p.qos == 0:
		return usage(c, "--receipt needs --qos 1 or 2: nobody accounts for messages of QoS 0")
	case p.receipts < 0:
		return usage(c, "--receipts: %d is negative", p.receipts)
	case p.interval < 0 || p.wait < 0 || p.ttl < 0 || p.broker.timeout <= 0:
		return usage(c, "--interval, --wait, --ttl and --timeout cannot be negative")
	}
	return nil
}

func (a *app) pub(c *cobra.Command, p *pubFlags) error {
	ctx, lost := context.WithCancelCause(c.Context())
	defer lost(nil)
	payload, err := a.payload(p)
	if err != nil {
		return err
	}
	r := newReceipts(a, p)
	p.book = r
	if p.client == "" {
		p.client = "farhop-pub-" + randomID()
	}
	cl, err := a.connect(ctx, c, &p.broker, connection{client: p.client, message: r.take, lost: lost})
	if err != nil {
		return err
	}
	defer func() { _ = cl.Disconnect(&paho.Disconnect{}) }() // all is acknowledged already
	if p.receipt {
		if err := subscribe(ctx, cl, 1, r.topic); err != nil {
			return causeOf(ctx, err)
		}
	}
	if p.lines {
		err = a.pubLines(ctx, cl, p, r.topic)
	} else {
		err = a.pubMany(ctx, cl, p, r.topic, payload)
	}
	if err != nil {
		return causeOf(ctx, err)
	}
	if p.receipt && p.taken == 0 {
		return &failure{exitNothing, fmt.Errorf("no receipt will come: nothing was stored for anybody"), "subscribe first, or add a route that stores " + p.topic}
	}
	if p.receipt {
		return r.await(ctx)
	}
	return nil
}

// causeOf prefers why a context ended over what that led to.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (a *app) payload(p *pubFlags) ([]byte, error) {
	if p.lines || p.payloadFromFlag {
		return []byte(p.message), nil
	}
	return a.readFile(p.file, maxPayload)
}

func (a *app) pubMany(ctx context.Context, cl *paho.Client, p *pubFlags, receipts string, payload []byte) error {
	for i := range p.count {
		if i > 0 {
			if err := pause(ctx, p.interval); err != nil {
				return err
			}
		}
		if err := a.pubOne(ctx, cl, p, receipts, payload); err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, p.count, err)
		}
	}
	return nil
}

func (a *app) pubLines(ctx context.Context, cl *paho.Client, p *pubFlags, receipts string) error {
	in := bufio.NewScanner(a.in)
	in.Buffer(nil, maxLine)
	n := 0
	for ; in.Scan(); n++ {
		if err := pause(ctx, p.interval); err != nil {
			return err
		}
		if err := a.pubOne(ctx, cl, p, receipts, in.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	return nil
}

// pubOne publishes one message and prints its id.
func (a *app) pubOne(ctx context.Context, cl *paho.Client, p *pubFlags, receipts string, payload []byte) error {
	props := &paho.PublishProperties{}
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
	if p.book != nil && resp.Properties != nil {
		p.book.sent(resp.Properties.User.Get(broker.IDProperty), began)
	}
	return a.published(p, resp)
}

// published prints what the broker said of a message it took.
func (a *app) published(p *pubFlags, resp *paho.PublishResponse) error {
	id := ""
	if resp.Properties != nil {
		id = clean(resp.Properties.User.Get(broker.IDProperty), 0)
	}
	unwanted := resp.ReasonCode == packets.PubackNoMatchingSubscribers
	if !unwanted {
		p.taken++
	}
	switch {
	case *p.json:
		return printLine(a.out, struct {
			Message      string `json:"message"`
			Topic        string `json:"topic"`
			NoSubscriber bool   `json:"no_subscriber,omitempty"`
		}{id, p.topic, unwanted})
	case unwanted:
		a.note("nobody subscribes to %s, and no route stores it: it was dropped", clean(p.topic, 0))
	case id == "":
		a.note("published; the broker gives no message id")
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
	if resp.ReasonCode == packets.PubackQuotaExceeded {
		hint = "farhop status shows how full the store is"
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
