package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/storeforward/migrate"
	"github.com/farhop/farhop/storeforward/store"
)

func (a *app) storeMigrateCmd() *cobra.Command {
	var to string
	var skip bool
	c := &cobra.Command{
		Use:   "migrate --to ENGINE",
		Short: "Move the store to the other engine, with all that waits in it",
		Long: `Move the store to the engine journal or bbolt: every message in every queue, in its
order and state, and all that the node remembers. The new store is made beside the
old one, read back and compared with it, and takes its place in one step. Whatever
ends this before, Ctrl-C or a power cut, leaves the old store in use; run it again
then. The old store is kept under another name, which is printed: remove it when the
node runs well.

The disk needs room for both. Of a store with damaged messages nothing is moved: the
node itself ends those, one by one, and tells who waits for them. --skip-damaged
leaves them behind instead: they are lost, and listed.`,
		Example: "  farhop store migrate --to bbolt\n  farhop store migrate --to journal --skip-damaged --json",
		Args:    args(0, 0, ""),
	}
	c.Flags().StringVar(&to, "to", "", "engine that the store shall have: "+strings.Join(config.StoreEngines(), " or "))
	c.Flags().BoolVar(&skip, "skip-damaged", false, "leave behind, and lose, the messages that cannot be read")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := need(c, "to"); err != nil {
			return err
		}
		if err := migrate.Engine(to).Validate(); err != nil {
			return usage(c, "--to: %v", err)
		}
		dir, err := a.dataDir()
		if err != nil {
			return err
		}
		r, err := node.MigrateStore(c.Context(), dir, to, skip,
			slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelError})))
		if *asJSON && (err == nil || r.LostCount > 0) {
			err = errors.Join(printJSON(a.out, r), err)
		} else if !*asJSON {
			a.printMigrated(r, err == nil)
		}
		if err != nil {
			return migrateFailure(err)
		}
		a.engineNote(dir, to)
		return nil
	}
	return c
}

// migrateFailure adds the next step to an error of a migration.
func migrateFailure(err error) error {
	switch {
	case errors.Is(err, node.ErrRunning):
		return failed("stop it first", "%w", err)
	case errors.Is(err, node.ErrNoStore):
		return &failure{exitNoNode, err, "name the data directory of a node with --dir"}
	case errors.Is(err, migrate.ErrDamaged):
		return &failure{exitBroken, err, "farhop run, which ends them one by one; or --skip-damaged, which loses them"}
	case errors.Is(err, store.ErrFull):
		return failed("make room on the disk, and run it again; the old store is in use and whole", "%w", err)
	}
	return err
}

// engineNote warns of a farhop.yaml that names the engine of before: the node
// would refuse to start.
func (a *app) engineNote(dir, to string) {
	path := filepath.Join(dir, config.FileName)
	c, err := config.Load(path)
	if err == nil && c.Store.Engine != "" && c.Store.Engine != to {
		a.note("%s says store.engine: %s; write %s there before you start the node", path, c.Store.Engine, to)
	}
}

func (a *app) printMigrated(r node.Migration, ok bool) {
	for _, l := range r.Lost {
		fmt.Fprintln(a.out, clean(lostText(l, ok), 0))
	}
	if more := r.LostCount - len(r.Lost); more > 0 {
		fmt.Fprintf(a.out, "and %d more\n", more)
	}
	switch {
	case !ok:
	case !r.Done:
		fmt.Fprintf(a.out, "the store is of engine %s already; nothing was done\n", r.To)
	default:
		fmt.Fprintf(a.out, "%s to %s: %s and %s of the node's own were moved, read back and compared\n", r.From, r.To,
			count(r.Messages, "message", "messages"), count(r.StateKeys, "value", "values"))
		if r.LostCount > 0 {
			fmt.Fprintf(a.out, "%s left behind: what is listed above is lost\n", count(r.LostCount, "damaged message or place was", "damaged messages or places were"))
		}
		if r.SetAside > 0 {
			fmt.Fprintf(a.out, "%s for damage; messages in it may never have been accounted for, so look there before you remove the old store\n",
				count(r.SetAside, "file was set aside", "files were set aside"))
		}
		fmt.Fprintf(a.out, "the old store is kept as %s; nothing reads it any more, remove it when the node runs well\n", clean(r.Kept, 0))
	}
}

// lostText is one line about what is lost, or would be.
func lostText(l node.LostStore, lost bool) string {
	what := "cannot be read"
	if lost {
		what = "is lost"
	}
	if len(l.Queues) == 0 {
		return fmt.Sprintf("what was numbered %d to %d and still waited %s: %s", l.First, l.Last, what, l.Why)
	}
	line := fmt.Sprintf("message number %d %s", l.First, what)
	if l.Message != "" {
		line = fmt.Sprintf("message %s, number %d, %s", l.Message, l.First, what)
	}
	return fmt.Sprintf("%s (%s): %s", line, strings.Join(l.Queues, ", "), l.Why)
}
