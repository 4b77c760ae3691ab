package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node"
)

func (a *app) storeCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:     "store",
		GroupID: groupLook,
		Short:   "Look after the store of a node that does not run",
		Long: `Look after what a node keeps on disk, while its daemon does not run: the store has
one owner at a time. For a node that runs see farhop status and farhop queue.`,
	}, a.storeCheckCmd(), a.storeStatsCmd(), a.storeCompactCmd(), a.storeExportCmd(), a.storeMigrateCmd())
}

// withStore runs f on the store of the data directory.
func (a *app) withStore(f func(o *node.Offline) error) error {
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	o, err := node.FindStore(dir, log)
	if err == nil {
		err = f(o)
		o.Close()
	}
	switch {
	case errors.Is(err, node.ErrRunning):
		return failed("stop it first, or use farhop queue, which speaks to it", "%w", err)
	case errors.Is(err, node.ErrNoStore):
		return &failure{exitNoNode, err, "name the data directory of a node with --dir"}
	}
	return err
}

func (a *app) storeCheckCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Read all that is stored and compare it with its checksums",
		Long: `Read every header, every payload and all that the node remembers, compare it with
its checksums, and count. Nothing is changed. Exit code 6 says that something is
damaged: the first 100 places are named. Messages that are damaged end as such, one
by one, when the node comes to them; the others are delivered. Files that were set
aside because nobody knows all that was in them are named until they are removed.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.withStore(func(o *node.Offline) error {
			r, err := o.Check(c.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(a.out, r)
			} else {
				err = a.printCheck(r)
			}
			if err == nil && r.Damaged > 0 {
				err = &failure{
					exitBroken, fmt.Errorf("%s in %s", count(r.Damaged, "place is damaged", "places are damaged"), r.Path),
					"farhop store export saves what can be read; then look after the disk",
				}
			}
			return err
		})
	}
	return c
}

func (a *app) printCheck(r node.StoreCheck) error {
	for _, f := range r.Faults {
		fmt.Fprintln(a.out, clean(f, 0))
	}
	if more := r.Damaged - len(r.Faults); more > 0 {
		fmt.Fprintf(a.out, "and %d more\n", more)
	}
	_, err := fmt.Fprintf(a.out, "%s: %s and %s of the node's own were read, %s\n", r.Engine,
		count(r.Messages, "message", "messages"), count(r.State, "value", "values"), count(r.Damaged, "fault", "faults"))
	return err
}

func (a *app) storeStatsCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "stats",
		Short: "Show what is stored, for whom and since when",
		Args:  args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.withStore(func(o *node.Offline) error {
			s, err := o.Stats(c.Context())
			switch {
			case err != nil:
				return err
			case *asJSON:
				return printJSON(a.out, s)
			}
			return a.printStoreStats(s)
		})
	}
	return c
}

func (a *app) printStoreStats(s node.StoreStats) error {
	fmt.Fprintf(a.out, "%-8s%s, %s\n", "store", filepath.Clean(s.Path), s.Engine)
	fmt.Fprintf(a.out, "%-8s%s, %s of payload\n", "waits", count(s.Messages, "message", "messages"), sizeText(s.Bytes))
	fmt.Fprintf(a.out, "%-8s%s of the node itself\n", "state", count(s.StateKeys, "value", "values"))
	disk := sizeText(s.FileBytes)
	if s.Segments > 0 {
		disk += fmt.Sprintf(", %s, of which about %s are needed", count(s.Segments, "segment", "segments"), sizeText(s.UsefulBytes))
	}
	fmt.Fprintf(a.out, "%-8s%s\n\n", "disk", disk)
	t := newTable("QUEUE", "CLASS", "BUNDLES", "SIZE", "OLDEST")
	for _, q := range s.Queues {
		oldest := ""
		if !q.Oldest.IsZero() {
			oldest = q.Oldest.Format(time.RFC3339)
		}
		t.row(q.Queue, q.Class, fmt.Sprint(q.Bundles), sizeText(q.Bytes), oldest)
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, "nothing waits")
		return err
	}
	return t.print(a.out)
}

func (a *app) storeCompactCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "compact",
		Short: "Give the space of what was delivered back to the disk",
		Long: `Give the space of what was delivered back to the disk, where the store's engine can.
The node does so by itself when it is worth it; this takes all there is.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return a.withStore(func(o *node.Offline) error {
			r, err := o.Compact(c.Context())
			switch {
			case errors.Is(err, node.ErrNotSupported):
				return failed("nothing: the space is used again", "%w", err)
			case err != nil:
				return err
			case *asJSON:
				return printJSON(a.out, r)
			}
			_, err = fmt.Fprintf(a.out, "%s before, %s now\n", sizeText(r.Before), sizeText(r.After))
			return err
		})
	}
	return c
}
