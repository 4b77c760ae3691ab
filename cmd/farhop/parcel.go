package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/node/parcel"
	"github.com/farhop/farhop/storeforward/bundle"
)

func (a *app) bundleExportCmd() *cobra.Command {
	var r admin.ExportRequest
	var out, limit string
	var release bool
	c := &cobra.Command{
		Use: "export --out FILE", Short: "Write bundles that wait for other nodes to a file, to be carried there", Args: args(0, 0, ""),
		Long: `Write what waits at this node for other nodes to a new file, signed by this node, to
be carried on a USB stick or a disk to a node from which it goes on, and taken in there
with farhop bundle import. The most urgent classes come first, for --limit.

Custody stays here: the node goes on sending over its links, and keeps its copies
until they are delivered that way, expire, or the receipt that the other node writes
is imported here. What arrives twice is delivered once.

With --release custody ends here as soon as the file is whole on its disk and was
read back. Then the file is the only copy: if it is lost, so are the messages.`,
		Example: "  farhop bundle export --out /media/stick/ship.fhb --to earth-1\n  farhop bundle import /media/stick/receipt.fhr",
	}
	f := c.Flags()
	f.StringVar(&out, "out", "", "the file, which must not be there yet")
	f.StringVar(&r.To, "to", "", "only what waits for this node or region")
	f.StringVar(&r.Class, "class", "", "only of this class")
	f.StringVar(&limit, "limit", "", "size of the file at most, such as 2GiB (default: 4GiB)")
	f.BoolVar(&release, "release", false, "end custody here: the file is the only copy then")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := need(c, "out"); err != nil {
			return err
		}
		var most config.Size
		if limit != "" {
			if err := most.UnmarshalText([]byte(limit)); err != nil || most <= 0 {
				return usage(c, "--limit %q: want a size such as 2GiB", limit)
			}
		}
		if _, err := bundle.ParseClass(cmp.Or(r.Class, bundle.Bulk.String())); err != nil {
			return usage(c, "--class: %v", err)
		}
		r.MaxBytes = int64(most)
		done, err := a.exportBundles(c, r, out, release)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.out, done)
		}
		fmt.Fprintf(a.out, "%s, %s in %s\n", count(done.Bundles, "bundle", "bundles"), sizeText(done.Bytes), clean(out, 0))
		if release {
			fmt.Fprintf(a.out, "custody of %d ended here: this file is the only copy\n", done.Released)
		}
		return nil
	}
	return c
}

// exportedBundles is what was written.
type exportedBundles struct {
	ID       string `json:"id"`
	File     string `json:"file"`
	Bundles  int    `json:"bundles"`
	Bytes    int64  `json:"bytes"`    // of the file
	Released int    `json:"released"` // custody ended here
	Left     int    `json:"left"`     // with --release: messages far back in long queues, of which those in the file end as their turn comes
}

// exportBundles writes a file that is there whole or not at all.
func (a *app) exportBundles(c *cobra.Command, r admin.ExportRequest, path string, release bool) (done exportedBundles, err error) {
	cl, err := a.client()
	if err != nil {
		return done, err
	}
	var whole parcel.Whole
	err = newFile(path, func(f *os.File) error {
		if err := cl.ExportBundles(c.Context(), r, f); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if whole, err = readBack(f); err == nil && whole.Bundles == 0 {
			err = nothing("nothing that waits for other nodes is to be written")
		}
		return err
	})
	done = exportedBundles{ID: whole.Header.ID, File: path, Bundles: whole.Bundles, Bytes: whole.Size}
	if err != nil || !release {
		return done, err
	}
	f, err := os.Open(path)
	if err != nil {
		return done, err
	}
	defer f.Close()
	over, err := cl.ReleaseBundles(c.Context(), f)
	done.Released, done.Left = over.Released, over.Left
	if err != nil {
		err = fmt.Errorf("the file is written, but custody stays here: %w", err)
	}
	return done, err
}

// readBack reads a file from its beginning to its end. The node judged its
// signature, or will.
func readBack(f *os.File) (parcel.Whole, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return parcel.Whole{}, err
	}
	w, err := parcel.Read(f, parcel.Reader{Verify: func(parcel.Header, []byte, []byte) error { return nil }})
	if err != nil {
		err = failed("see the log of the node", "the file is not whole: %w", err)
	}
	return w, err
}

// vacant refuses a name that is taken.
func vacant(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return failed("name another file, or remove it", "%s is there already", filepath.Clean(path))
	}
	return nil
}

// newFile makes a file that appears under its name, durable, once fill is done.
func newFile(path string, fill func(*os.File) error) (err error) {
	if err := vacant(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // only the owner may read it
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // of no use to anybody
		}
	}()
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // file systems of sticks may not know it
	}
	return errors.Join(err, d.Close())
}

func (a *app) bundleImportCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "import FILE", Short: "Take a file of bundles into custody, or a receipt that ends it", Args: args(1, 1, "one file"),
		Long: `Take the bundles of a file of farhop bundle export into custody at this node, from
where they go on as if they had come over a link. The file is judged first: when it is
damaged, cut off, or not signed by a node of this mesh, nothing is taken in. What was
here before is known, and not taken twice, so an import that was cut short is done
again.

--receipt writes a file, signed by this node, that says what has been taken. Carried
back and imported at the node the bundles are from, it ends the custody there.`,
		Example: "  farhop bundle import /media/stick/ship.fhb --receipt /media/stick/receipt.fhr",
	}
	receipt := c.Flags().String("receipt", "", "write a receipt to this new file")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error { return a.importFile(c, given[0], *receipt, *asJSON) }
	return c
}

func (a *app) importFile(c *cobra.Command, path, receipt string, asJSON bool) error {
	if err := vacant(receipt); receipt != "" && err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := readBack(f)
	if err != nil {
		return failed("nothing was changed; copy the file again, or export anew", "%s: %w", path, errors.Unwrap(err))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if w.Kind == parcel.Receipt {
		done, err := cl.ReleaseBundles(c.Context(), f)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(a.out, done)
		}
		fmt.Fprintf(a.out, "%s has custody of %s; %d ended here\n", done.Node, count(done.Named, "bundle", "bundles"), done.Released)
		return nil
	}
	done, err := cl.ImportBundles(c.Context(), f)
	if err == nil && receipt != "" {
		err = newFile(receipt, func(f *os.File) error { _, err := f.Write(done.Receipt); return err })
	}
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(a.out, done)
	}
	return a.printImported(done)
}

func (a *app) printImported(d admin.Imported) error {
	fmt.Fprintf(a.out, "%s of %s: %d taken into custody, %d known before", count(d.Bundles, "bundle", "bundles"), d.Node, d.Taken, d.Known)
	var reasons []string
	for reason := range d.Refused {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, r := range reasons {
		fmt.Fprintf(a.out, ", %d refused as %s", d.Refused[r], clean(r, 0))
	}
	fmt.Fprintln(a.out)
	if d.Returned {
		a.note("the file is of this node itself: what it still has was not taken in again")
	}
	if d.Unclear {
		a.note("how long the file was under way is not known, for a clock is not trusted: that time is not taken off the lives of the bundles")
	}
	return nil
}
