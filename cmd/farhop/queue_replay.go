package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// replayChunk bounds one request of a replay, in bytes of JSON; one message may
// go beyond.
const replayChunk = 4 << 20

func (a *app) queueReplayCmd() *cobra.Command {
	var r replay
	var to string
	c := &cobra.Command{
		Use:   "replay FILE",
		Short: "Publish messages of a file again",
		Long: `Publish the messages of a file again: what farhop store export wrote, or farhop
queue peek --payload --json, of this node or another. Each goes to everybody who
subscribes now, or only to one session of this node (--to-session), or to the
subscribers of one node (--to-node), with its topic, QoS, class and properties,
and with what is left of its life; - reads standard input.

The node knows each by its old id, so that a second replay to the same place
delivers nothing twice: those are duplicates. What was in several queues goes once.
The originals are not looked for: those that still wait are delivered, too.
A message that nobody wants counts as no-subscriber, and is remembered too;
--again replays what was replayed before. Retained messages are delivered, and not
retained again. What is no publication, has ended or was received is skipped.

The verdicts are counted. Exit code 1: some were refused, such as by a quota; run
it again when there is room. Exit code 5: the file has nothing to replay.`,
		Example: "  farhop store export saved.jsonl --dir old && farhop queue replay saved.jsonl",
		Args:    args(1, 1, "one file"),
	}
	f := c.Flags()
	f.StringVar(&r.request.Session, "to-session", "", "only to this MQTT client of the node, whose session must be persistent")
	f.StringVar(&to, "to-node", "", "only to the subscribers of this node")
	f.BoolVar(&r.request.Again, "again", false, "also what was replayed before")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, words []string) (err error) {
		if to != "" {
			if r.request.Node, err = addr.ParseNode(to); err != nil {
				return usage(c, "--to-node: %v", err)
			}
			if r.request.Session != "" {
				return usage(c, "--to-session and --to-node cannot be used together")
			}
		}
		in := a.in
		if words[0] != "-" {
			f, err := os.Open(words[0])
			if err != nil {
				return failed("name a file of farhop store export", "%w", err)
			}
			defer f.Close()
			in = f
		}
		if r.client, err = a.client(); err != nil {
			return err
		}
		r.done = replayDone{Verdicts: map[string]int{}}
		err = r.read(c.Context(), in, words[0])
		return errors.Join(err, a.printReplay(r.done, *asJSON, err))
	}
	return c
}

// replay is one run of farhop queue replay.
type replay struct {
	client  *admin.Client
	request admin.ReplayRequest
	bytes   int // of the request, encoded
	done    replayDone
}

// replayDone is its result.
type replayDone struct {
	Verdicts map[string]int `json:"verdicts"`
	Skipped  int            `json:"skipped"` // what is no publication, has ended or was received
}

// replayValue is one JSON value of a file: a line of an export, or a peek.
type replayValue struct {
	admin.Stored
	Messages []admin.Waiting `json:"messages"`
}

// read replays all values of a file.
func (r *replay) read(ctx context.Context, in io.Reader, name string) error {
	for d, n := json.NewDecoder(in), 1; ; n++ {
		var v replayValue
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return r.flush(ctx)
		}
		if err == nil && v.Messages == nil && v.Queue == "" {
			err = errors.New("it is neither a line of farhop store export nor what farhop queue peek --json prints")
		}
		if err != nil {
			return errors.Join(failed("give it what farhop store export wrote", "%s, JSON value %d: %w", name, n, err), r.flush(ctx))
		}
		if err := r.take(ctx, v); err != nil {
			return err
		}
	}
}

func (r *replay) take(ctx context.Context, v replayValue) error {
	if v.Messages == nil {
		return r.add(ctx, v.State, admin.ReplayMessage{Publication: v.Publication, Class: v.Class, Expires: v.Expires}, v.Unread)
	}
	for _, m := range v.Messages {
		if len(m.Content) == 0 {
			r.done.Skipped++
		}
		for _, p := range m.Content {
			if err := r.add(ctx, m.State, admin.ReplayMessage{Publication: p, Class: m.Class, Expires: m.Expires}, m.Unread); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *replay) add(ctx context.Context, state string, m admin.ReplayMessage, unread string) error {
	if m.Topic == "" || unread != "" || state != "waiting" && state != "in flight" {
		r.done.Skipped++
		return nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Message, err)
	}
	if len(r.request.Messages) >= admin.MaxReplay || r.bytes > 0 && r.bytes+len(text) > replayChunk {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.request.Messages = append(r.request.Messages, m)
	r.bytes += len(text)
	return nil
}

// flush submits what was gathered.
func (r *replay) flush(ctx context.Context) error {
	if len(r.request.Messages) == 0 {
		return nil
	}
	out, err := r.client.Replay(ctx, r.request)
	r.request.Messages, r.bytes = r.request.Messages[:0], 0
	for verdict, n := range out.Verdicts {
		r.done.Verdicts[verdict] += n
	}
	return err
}

// printReplay prints what was done, also when it was cut short by err.
func (a *app) printReplay(d replayDone, asJSON bool, err error) error {
	total, refused := 0, 0
	var parts []string
	for _, verdict := range slices.Sorted(maps.Keys(d.Verdicts)) {
		n := d.Verdicts[verdict]
		total += n
		parts = append(parts, fmt.Sprintf("%d %s", n, clean(verdict, 0)))
		switch verdict {
		case bundle.OK.String(), bundle.Duplicate.String(), bundle.Expired.String(), bundle.NoSubscriber.String():
		default:
			refused += n
		}
	}
	if d.Skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", d.Skipped))
	}
	if asJSON {
		if err := printJSON(a.out, d); err != nil {
			return err
		}
	} else if len(parts) > 0 {
		if _, err := fmt.Fprintln(a.out, strings.Join(parts, ", ")); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return nil // it says why
	case refused > 0:
		return failed("farhop status, and the same again when there is room", "%s refused", count(refused, "message was", "messages were"))
	case total == 0:
		return &failure{exitNothing, errors.New("there is nothing to replay in the file"), "farhop store export, or farhop queue peek --payload --json"}
	}
	return nil
}
