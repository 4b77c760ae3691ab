package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"
	"github.com/spf13/cobra"

	"github.com/farhop/farhop/routing/interest"
)

// sessionLife is how long the session of farhop sub --client is kept for it.
const sessionLife = 7 * 24 * time.Hour

// maxRetry is the longest pause before a lost connection is tried again.
const maxRetry = 30 * time.Second

// errEnough ends a subscription that has what it wanted.
var errEnough = errors.New("enough messages")

// subFlags are the flags of farhop sub.
type subFlags struct {
	broker      brokerFlags
	filters     []string
	qos         uint8
	count       int
	client      string
	wait        time.Duration
	json        *bool
	payloadOnly bool
	latency     bool
}

func (a *app) subCmd() *cobra.Command {
	var s subFlags
	c := &cobra.Command{
		Use:     "sub -t FILTER...",
		GroupID: groupMessages,
		Short:   "Subscribe and print messages",
		Long: `Subscribe at the node's own broker, as any MQTT client could, and print each
message with its topic, until stopped or until --count have come. A lost
connection is made again.

With --client the subscription outlives the command: the node keeps what is
published in the meantime, for 7 days, and the next farhop sub with the same name
gets it. A message counts as received once it is printed.

With --latency nothing is printed but, at the end, how long messages of farhop pub
--latency took, from the clock there to the clock here. Messages without a time
are not counted in.

Payloads that are not text are printed with escapes; --json has them in base64,
as payload_base64, and the properties of MQTT 5. Exit code 5: --wait ran out
before -n messages had come.`,
		Example: "  farhop sub -t 'plant/#'\n  farhop sub -t 'cmd/7/#' --client plc-7 --count 10 --json",
		Args:    args(0, 0, ""),
	}
	f := c.Flags()
	f.StringArrayVarP(&s.filters, "topic", "t", nil, "topic filter; may be given more than once")
	f.Uint8VarP(&s.qos, "qos", "q", 1, "0, 1 or 2")
	f.IntVarP(&s.count, "count", "n", 0, "end after this many messages (default: go on)")
	f.StringVar(&s.client, "client", "", "name of a session that is kept (default: none is)")
	f.DurationVar(&s.wait, "wait", 0, "end after this time (default: go on)")
	f.BoolVar(&s.latency, "latency", false, "sum up how long messages took")
	f.BoolVar(&s.payloadOnly, "payload", false, "print payloads without their topics")
	s.json = f.Bool("json", false, "print JSON, one value a line")
	s.broker.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := s.check(c); err != nil {
			return err
		}
		p := &printer{out: a.out, flags: &s, SessionManager: state.NewInMemory()}
		err := a.sub(c, &s, p)
		if s.latency {
			err = errors.Join(err, p.spans.print(a, *s.json, "messages"))
		}
		return err
	}
	return c
}

func (s *subFlags) check(c *cobra.Command) error {
	if err := need(c, "topic"); err != nil {
		return err
	}
	for _, f := range s.filters {
		if err := interest.ValidFilter(f); err != nil {
			return usage(c, "--topic: %v", err)
		}
	}
	switch {
	case s.qos > 2:
		return usage(c, "--qos: %d is not 0, 1 or 2", s.qos)
	case s.count < 0:
		return usage(c, "--count: %d is negative", s.count)
	case s.wait < 0 || s.broker.timeout <= 0:
		return usage(c, "--wait and --timeout cannot be negative")
	case s.client != "" && s.qos == 0:
		return usage(c, "--client needs --qos 1 or 2: messages of QoS 0 are not kept")
	}
	return nil
}

// sub connects again and again until it has enough, time is over or somebody
// stops it.
func (a *app) sub(c *cobra.Command, s *subFlags, p *printer) error {
	ctx := c.Context()
	if s.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.wait)
		defer cancel()
	}
	wait := time.Second
	for connected := false; ; wait = min(2*wait, maxRetry) {
		up, err := a.subOnce(ctx, c, s, p)
		switch {
		case errors.Is(err, errEnough):
			return nil
		case c.Context().Err() != nil:
			return nil
		case ctx.Err() != nil && s.count > 0:
			return &failure{exitNothing, fmt.Errorf("%d of %s came within %s", p.printed, count(s.count, "message", "messages"), s.wait), "wait longer with --wait"}
		case ctx.Err() != nil:
			return nil
		case p.err != nil:
			return p.err
		case !up && !connected || isFinal(err):
			return err
		}
		if up {
			connected, wait = true, time.Second
		}
		a.note("farhop: %s; again in %s", clean(err.Error(), 0), wait)
		if pause(ctx, wait) != nil {
			continue // the cases above say how it ends
		}
	}
}

func isFinal(err error) bool {
	var d *disconnected
	return errors.As(err, &d) && d.final()
}

// subOnce holds one connection until it is lost; up tells whether it stood.
func (a *app) subOnce(ctx context.Context, c *cobra.Command, s *subFlags, p *printer) (up bool, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	p.end = end
	o := connection{client: s.client, resume: s.client != "", session: p, message: p.print, lost: end}
	if s.client == "" {
		o.client = "farhop-sub-" + randomID()
	} else {
		o.expiry = sessionLife
	}
	cl, err := a.connect(ctx, c, &s.broker, o)
	if err != nil {
		return false, causeOf(ctx, err)
	}
	defer func() { _ = cl.Disconnect(&paho.Disconnect{}) }() // what was printed is acknowledged already
	if err := subscribe(ctx, cl, s.qos, s.filters...); err != nil {
		return false, causeOf(ctx, err)
	}
	<-ctx.Done()
	return true, context.Cause(ctx)
}

// printer prints messages and acknowledges those it has printed: it stands
// between the MQTT client and its session, so that none is acknowledged that a
// count or a closed pipe kept from being printed. The client calls print and
// then Ack for one message after the other, from one goroutine.
type printer struct {
	session.SessionManager
	out     io.Writer
	flags   *subFlags
	end     context.CancelCauseFunc
	printed int
	full    bool // the last message was not printed
	spans   latencies
	err     error
}

func (p *printer) print(m *paho.Publish) {
	if p.full = p.err != nil || p.flags.count > 0 && p.printed >= p.flags.count; p.full {
		return
	}
	if err := p.write(m); err != nil {
		p.err, p.full = fmt.Errorf("print a message: %w", err), true
		p.end(p.err)
		return
	}
	p.printed++
}

// Ack implements session.SessionManager.
func (p *printer) Ack(pb *packets.Publish) error {
	if p.full {
		return errEnough
	}
	err := p.SessionManager.Ack(pb)
	if p.printed == p.flags.count {
		p.end(errEnough)
	}
	return err
}

// received is a message as --json prints it.
type received struct {
	Topic   string            `json:"topic"`
	Payload *string           `json:"payload,omitempty"`
	Base64  []byte            `json:"payload_base64,omitempty"`
	QoS     byte              `json:"qos"`
	Retain  bool              `json:"retain,omitempty"`
	Dup     bool              `json:"dup,omitempty"`
	User    map[string]string `json:"user_properties,omitempty"` // of a key that repeats the last value

	ContentType string  `json:"content_type,omitempty"`
	Format      string  `json:"format,omitempty"` // text or bytes, where the publisher says
	Response    string  `json:"response_topic,omitempty"`
	Correlation []byte  `json:"correlation,omitempty"` // base64
	ExpiryS     *uint32 `json:"expiry_s,omitempty"`    // seconds left
}

// properties takes over those of MQTT 5.
func (r *received) properties(p *paho.PublishProperties) {
	if p == nil {
		return
	}
	for i, u := range p.User {
		if i == 0 {
			r.User = map[string]string{}
		}
		r.User[u.Key] = u.Value
	}
	r.ContentType, r.Response, r.Correlation, r.ExpiryS = p.ContentType, p.ResponseTopic, p.CorrelationData, p.MessageExpiry
	switch {
	case p.PayloadFormat == nil:
	case *p.PayloadFormat == 1:
		r.Format = "text"
	default:
		r.Format = "bytes"
	}
}

func (p *printer) write(m *paho.Publish) error {
	if p.flags.latency {
		if m.Properties != nil {
			if at, ok := sentAt(m.Properties.User.Get(sentProperty)); ok {
				p.spans.add(time.Since(at))
			}
		}
		return nil
	}
	text := string(m.Payload)
	if *p.flags.json {
		r := received{Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Dup: m.Duplicate()}
		if utf8.ValidString(text) {
			r.Payload = &text
		} else {
			r.Base64 = m.Payload
		}
		r.properties(m.Properties)
		return printLine(p.out, r)
	}
	if p.flags.payloadOnly {
		_, err := fmt.Fprintln(p.out, clean(text, '\t'))
		return err
	}
	_, err := fmt.Fprintf(p.out, "%s %s\n", clean(m.Topic, 0), clean(text, '\t'))
	return err
}

// printLine writes one JSON value on one line.
func printLine(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = w.Write(append(data, '\n'))
	return err
}
