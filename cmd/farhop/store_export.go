package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/admin"
)

func (a *app) storeExportCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write all stored messages as JSON lines",
		Long: `Write every message that waits as a line of JSON, to a new file that only you can
read, or to standard output: its queue, its id, what it says with the payload in
base64, and the whole encoded bundle in hex where there is one. The messages of a
batch are lines of their own. farhop queue replay publishes them again, at this
node or at another. Nothing is changed.

A message that waits in several queues is written once for each. One that cannot be
read is written too, with the reason in "unread", and the exit code is 6.`,
		Example: "  farhop store export saved.jsonl\n  farhop store export | jq -r .topic | sort | uniq -c",
		Args:    args(0, 1, "one file"),
	}
	c.Flags().Bool("json", true, "as it is always written")
	c.RunE = func(c *cobra.Command, words []string) error {
		return a.withStore(func(o *node.Offline) error {
			if len(words) == 0 || words[0] == "-" {
				return a.export(c, o, a.out)
			}
			f, err := os.OpenFile(words[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return failed("name another file, or remove it", "%s is there already", filepath.Clean(words[0]))
			}
			if err != nil {
				return fmt.Errorf("make a file: %w", err)
			}
			err = a.export(c, o, f)
			return errors.Join(err, f.Sync(), f.Close())
		})
	}
	return c
}

func (a *app) export(c *cobra.Command, o *node.Offline, to io.Writer) error {
	w := bufio.NewWriterSize(to, 1<<20)
	lines, unread := 0, 0
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	err := o.Export(c.Context(), time.Now(), func(s admin.Stored) error {
		if lines++; s.Unread != "" {
			unread++
		}
		return enc.Encode(s)
	})
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	a.note("%s written", count(lines, "message", "messages"))
	if unread > 0 {
		return &failure{exitBroken, fmt.Errorf("%s could not be read", count(unread, "message", "messages")), "farhop store check"}
	}
	return nil
}
