package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/parcel"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func unsigned([]byte) ([]byte, error) { return []byte("signed"), nil }

func parcelHeader() parcel.Header {
	return parcel.Header{ID: strings.Repeat("0f", 16), Node: addr.MustNode("luna-1"), Store: 7, Created: noon(), Dated: true}
}

func (f fakeNode) ExportBundles(_ context.Context, r admin.ExportRequest, w io.Writer) error {
	out, err := parcel.NewWriter(w, parcel.Bundles, parcelHeader())
	if err == nil && !f.empty {
		err = out.Bundle(3, bundle.Alarm, []byte("bundle"))
	}
	if err != nil || r.To == "cut" {
		return err
	}
	return out.End(unsigned)
}

func (f fakeNode) ImportBundles(_ context.Context, file io.Reader) (admin.Imported, error) {
	if _, err := io.Copy(io.Discard, file); err != nil {
		return admin.Imported{}, err
	}
	out := admin.Imported{ID: strings.Repeat("0f", 16), Node: addr.MustNode("ship"), Created: noon(), Bundles: 9, Taken: 5, Known: 1, Refused: map[string]int{"store-full": 2, "malformed": 1}, Unclear: true, Receipt: []byte("receipt")}
	return out, nil
}

func (f fakeNode) ReleaseBundles(_ context.Context, file io.Reader) (admin.HandedOver, error) {
	_, err := io.Copy(io.Discard, file)
	return admin.HandedOver{ID: strings.Repeat("0f", 16), Node: addr.MustNode("earth-1"), Named: 6, Released: 5}, err
}

// What the commands about files of bundles say.
func TestParcelCommands(t *testing.T) {
	for name, f := range map[string]fakeNode{"full": {}, "empty": {empty: true}} {
		t.Run(name, func(t *testing.T) {
			files := t.TempDir()
			receipt, err := os.Create(filepath.Join(files, "receipt.json"))
			if err != nil {
				t.Fatal(err)
			}
			h := parcelHeader()
			h.From = addr.MustNode("ship")
			w, err := parcel.NewWriter(receipt, parcel.Receipt, h)
			if err != nil || w.Taken([]parcel.Key{{Seq: 1, Bundle: 2}}) != nil || w.End(unsigned) != nil || receipt.Close() != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(files, "none.json"), []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
			golden(t, "parcel-"+name+".txt", transcript(t, serve(t, f), files, []string{
				"bundle export", "bundle export --out a.json", "bundle export --out a.json", "bundle export --out b.json --to earth-1 --class alarm --limit 1MiB --release",
				"bundle export --out c.json --json", "bundle export --out d.json --to cut", "bundle export --out e.json --limit 0", "bundle export --out e.json --class x",
				"bundle import a.json --receipt r.json", "bundle import a.json --receipt r.json", "bundle import a.json --json", "bundle import receipt.json", "bundle import none.json", "bundle import",
			}))
			left, _ := filepath.Glob(filepath.Join(files, ".*"))
			if len(left) > 0 {
				t.Errorf("files are left: %v", left)
			}
		})
	}
}
