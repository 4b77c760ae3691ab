package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/spf13/cobra"

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
	rate            float64 // messages/s, 0: one after the other
	latency         bool
	spans           latencies // from publish to acknowledgement
	props           pubProperties

	mu    sync.Mutex
	taken int // messages that somebody wants; guarded by mu
}

func (a *app) pubCmd() *cobra.Command {
	var p pubFlags
	c := &cobra.Command{
		Use:     "pub -t TOPIC (-m MESSAGE | -f FILE | -l)",
		GroupID: groupMessages,
		Short:   "Publish messages",
		Long: `Publish to the node's own broker, as any MQTT client could. With QoS 1 or 2 each
message that the node has taken is answered with its id, which is printed, one a
line; farhop why finds it by that id. What nobody gets but clients that are
connected to this node is not stored, and has no id.

The payload is a text (-m), a file (-f, - for standard input), or one message for
each line of standard input (-l). --count sends it again and again, each when the
one before is acknowledged; with --rate as many a second, whatever is not yet
acknowledged, up to 1024.

With --receipt the publisher is told what became of the message: one receipt for
each region it goes to, when all is known there. It is printed with the region, the
state (delivered, expired, refused, unknown, untracked), why if it ended otherwise,
the node that said so and the time since it was published, until the last one of
each message or --receipts have come, or --wait is over. Exit code 5: there was none.

With --latency the times from publish to acknowledgement are summed up at the end,
instead of ids; and the time of publishing travels along, as user property
farhop-sent, for farhop sub --latency.`,
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
	f.IntVar(&p.count, "repeat", 1, "the same as --count")
	f.Float64Var(&p.rate, "rate", 0, "messages a second (default: one after the other)")
	f.BoolVar(&p.latency, "latency", false, "sum up how long acknowledgements take")
	p.props.add(c)
	f.DurationVar(&p.interval, "interval", 0, "pause between two messages")
	f.DurationVar(&p.ttl, "ttl", 0, "lifetime, after which it expires undelivered (default: delivery.ttl of the node)")
	f.StringVar(&p.client, "client", "", "MQTT client id (default: a random one)")
	f.BoolVar(&p.receipt, "receipt", false, "ask for receipts and print them")
	f.IntVar(&p.receipts, "receipts", 0, "end once this many receipts have come (default: all)")
	f.DurationVar(&p.wait, "wait", time.Minute, "how long to wait for receipts at most")
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
		return usage(c, "farhop pub needs exactly one of --message, --file and --lines")
	case p.qos > 2:
		return usage(c, "--qos: %d is not 0, 1 or 2", p.qos)
	case p.count < 1:
		return usage(c, "--count: %d is not positive", p.count)
	case p.rate < 0 || p.rate > maxRate || p.rate > 0 && p.interval > 0:
		return usage(c, "--rate: want up to %d a second, and no --interval with it", maxRate)
	case p.lines && p.count > 1:
		return usage(c, "--count cannot be used with --lines")
	case p.receipt && p.qos == 0:
		return usage(c, "--receipt needs --qos 1 or 2: a message of QoS 0 has no answer with its id")
	case p.receipts < 0:
		return usage(c, "--receipts: %d is negative", p.receipts)
	case p.interval < 0 || p.wait < 0 || p.ttl < 0 || p.broker.timeout <= 0:
		return usage(c, "--interval, --wait, --ttl and --timeout cannot be negative")
	}
	return p.props.check(c)
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
	err = a.pubAll(ctx, cl, p, r.topic, payload)
	if p.latency {
		err = errors.Join(err, p.spans.print(a, *p.json, "acknowledgements"))
	}
	if err != nil {
		return causeOf(ctx, err)
	}
	if p.receipt && p.taken == 0 {
		return &failure{exitNothing, errors.New("there is nothing to wait for: nobody gets it"), "subscribe first, or add a route that stores " + p.topic}
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
