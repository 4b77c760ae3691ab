package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/bundle/bpa"
)

// maxBundle is the largest file farhop bundle decode reads.
const maxBundle = 64 << 20

func (a *app) bundleCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:     "bundle",
		GroupID: groupMessages,
		Short:   "Carry bundles by file, or look into them",
		Long:    "Carry bundles that wait for other nodes by file, and look into bundles of the Bundle\nProtocol, version 7 (RFC 9171), of any implementation.",
	}, a.bundleDecodeCmd(), a.bundleExportCmd(), a.bundleImportCmd())
}

func (a *app) bundleDecodeCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "decode FILE|HEX",
		Short: "Take a bundle apart and judge it",
		Long: `Take a bundle apart and judge it: does it parse, and would the default policy
accept it? FILE holds a bundle, or its hexadecimal digits; - is standard input.
Blanks and a leading 0x among the digits do not matter.

A bundle that comes from a file is not judged by today's clock, for most would
have expired long ago; --at judges it as of a time, or as of now. Its own age
block counts always.

The exit code is 0 when parse and policy both accept the bundle, and 1 when
either refuses it.`,
		Example: `  farhop bundle decode capture.bin
  farhop bundle decode --json 9f88070000820282010282028202018202820201820018281a000f4240...ff
  farhop bundle decode --at 2026-03-01T12:00:00Z - < capture.bin`,
		Args: args(1, 1, "one file, - or hexadecimal digits"),
	}
	asJSON := jsonFlag(c)
	at := c.Flags().String("at", "", `judge as of this time: "now" or like 2026-03-01T12:00:00Z`)
	c.RunE = func(c *cobra.Command, given []string) error {
		now, err := parseAt(*at)
		if err != nil {
			return usage(c, "--at %q: want now, or a time such as 2026-03-01T12:00:00Z", *at)
		}
		raw, err := a.bundleBytes(c, given[0])
		if err != nil {
			return err
		}
		d := decodeBundle(raw, now)
		if *asJSON {
			err = printJSON(a.out, d)
		} else {
			err = a.printBundle(d)
		}
		if err != nil {
			return err
		}
		return d.refusal()
	}
	return c
}

// parseAt reads --at: the zero time for "".
func parseAt(s string) (time.Time, error) {
	switch s {
	case "":
		return time.Time{}, nil
	case "now":
		return time.Now(), nil
	}
	return time.Parse(time.RFC3339, s)
}

// bundleBytes returns the bytes of a bundle that an argument names or is.
func (a *app) bundleBytes(c *cobra.Command, arg string) ([]byte, error) {
	_, err := os.Stat(arg)
	if arg != "-" && (errors.Is(err, fs.ErrNotExist) || err != nil && len(arg) > 200) {
		if b, ok := unhex(arg); ok {
			return b, nil
		}
		return nil, usage(c, "%q is neither a file nor hexadecimal digits", clipText(arg))
	}
	data, err := a.readFile(arg, maxBundle)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, failed("", "%s is empty", clipText(arg))
	}
	if b, ok := unhex(string(data)); ok {
		return b, nil
	}
	return data, nil
}

// unhex reads hexadecimal digits among which blanks do not matter. No bundle in
// bytes looks like that: the first of them is no digit.
func unhex(s string) ([]byte, bool) {
	var b bytes.Buffer
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return unicode.IsSpace(r) || r == ',' }) {
		if w, ok := strings.CutPrefix(word, "0x"); ok {
			word = w
		}
		b.WriteString(word)
	}
	out, err := hex.DecodeString(b.String())
	return out, err == nil && len(out) > 0
}

func clipText(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// decoded is what farhop bundle decode says of a bundle.
type decoded struct {
	Bytes  int          `json:"bytes"`
	Parse  parseVerdict `json:"parse"`
	Policy judgement    `json:"policy"`
	Bundle *bundleHead  `json:"bundle,omitempty"` // when its primary block was read
	Blocks []blockInfo  `json:"blocks"`           // the primary first; those read before the error
}

const (
	accepted = "accept"
	refused  = "refuse"
)

type parseVerdict struct {
	Verdict string `json:"verdict"`
	Error   string `json:"error,omitempty"`
	Section string `json:"section,omitempty"` // of RFC 9171
	Offset  *int   `json:"offset,omitempty"`
}

type judgement struct {
	Verdict string      `json:"verdict"`
	At      *time.Time  `json:"at,omitempty"`
	Faults  []faultInfo `json:"faults"`
}

type faultInfo struct {
	Name      string `json:"name"`
	Clause    string `json:"clause"`
	Text      string `json:"text"`
	Tolerated bool   `json:"tolerated"`
	Reason    string `json:"reason"`
	Code      uint64 `json:"report_code"`
}

// decodeBundle parses and judges; the zero now is no clock.
func decodeBundle(raw []byte, now time.Time) decoded {
	var v bundle.View
	err := v.Parse(raw)
	verdict := bpa.Verdict{Found: bpa.Malformed, Refused: bpa.Malformed}
	d := decoded{Bytes: len(raw), Parse: parseVerdict{Verdict: accepted}, Policy: judgement{Verdict: accepted, Faults: []faultInfo{}}}
	if err == nil {
		verdict = bpa.DefaultPolicy().Check(&v, now)
	} else {
		d.Parse = parseVerdict{Verdict: refused, Error: err.Error()}
		if e, ok := errors.AsType[*bundle.ParseError](err); ok {
			d.Parse.Error, d.Parse.Section, d.Parse.Offset = e.Msg, e.Section, &e.Offset
		}
	}
	if !verdict.OK() {
		d.Policy.Verdict = refused
	}
	if !now.IsZero() {
		utc := now.UTC()
		d.Policy.At = &utc
	}
	for _, set := range []bpa.Faults{verdict.Refused, verdict.Found &^ verdict.Refused} {
		for _, f := range set.List() {
			d.Policy.Faults = append(d.Policy.Faults, faultInfo{f.Name, f.Clause, f.Text, !verdict.Refused.Has(set), f.Reason.String(), uint64(f.Code)})
		}
	}
	d.Bundle, d.Blocks = headOf(&v), blocksOf(&v, d.Parse.Error == bundle.WrongCRC)
	return d
}

// refusal is the error of a bundle that was refused.
func (d *decoded) refusal() error {
	if d.Parse.Verdict == refused {
		return failed("", "the bundle does not parse: %s", d.Parse.Error)
	}
	var why []string
	for _, f := range d.Policy.Faults {
		if !f.Tolerated {
			why = append(why, f.Name)
		}
	}
	if len(why) > 0 {
		return failed("", "policy refuses the bundle: %s", strings.Join(why, ", "))
	}
	return nil
}

func (a *app) printBundle(d decoded) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-12s%s\n", name, clean(fmt.Sprintf(format, args...), 0))
	}
	if b := d.Bundle; b != nil {
		line("source", "%s", b.Source)
		line("destination", "%s", b.Destination)
		line("report to", "%s", b.ReportTo)
		line("created", "%s, number %d", orDash(b.Created.UTC, "without a clock"), b.Created.Seq)
		line("lifetime", "%s%s", spanText(time.Duration(min(b.Lifetime, 1<<43))*time.Millisecond), orDash(b.FlagText(), ""))
		if f := b.Fragment; f != nil {
			line("fragment", "%d bytes at %d of %d", f.Bytes, f.Offset, f.Total)
		}
		fmt.Fprintln(a.out)
	}
	if len(d.Blocks) > 0 {
		t := newTable("BLOCK", "TYPE", "NUMBER", "FLAGS", "CRC", "AT", "BYTES", "CONTENT")
		for _, b := range d.Blocks {
			t.row(b.cells()...)
		}
		if err := t.print(a.out); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	if d.Parse.Offset != nil {
		line("parse", "%s: byte %d: %s (RFC 9171, section %s)", d.Parse.Verdict, *d.Parse.Offset, d.Parse.Error, d.Parse.Section)
	} else {
		line("parse", "%s", d.Parse.Verdict)
	}
	line("policy", "%s", d.Policy.Verdict)
	for _, f := range d.Policy.Faults {
		mark := ""
		if f.Tolerated {
			mark = ", tolerated"
		}
		line("", "%s: %s (%s%s)", f.Name, f.Text, f.Clause, mark)
	}
	return nil
}

func orDash(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
