package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/sim/emulator"
	"github.com/farhop/farhop/sim/emulator/desc"
)

// linkFlags are the flags of farhop sim link. Those that describe the link have
// the names of the keys in its file.
type linkFlags struct {
	file, api string
	between   string
	run       time.Duration
	json      bool
}

// linkFlag is a flag that sets a key of the description.
type linkFlag struct{ name, key, use string }

func linkKeyFlags() []linkFlag {
	return []linkFlag{
		{"listen", "listen", "HOST:PORT to listen at, port 0 for a free one"},
		{"to", "to", "HOST:PORT of the real receiver"},
		{"network", "network", "udp, tcp or both (default both)"},
		{"delay", "delay", "one-way delay, such as 1.28s"},
		{"jitter", "jitter", "most that is added to the delay; never reorders"},
		{"loss", "loss", "share of datagrams that is lost, such as 1% or 0.01"},
		{"burst", "burst", "mean number of datagrams lost in a row, such as 10 (default: each is lost independently)"},
		{"rate", "rate", "rate of the bottleneck in bits of IP packets, such as 9600bit or 50Mbit (default unlimited)"},
		{"return-rate", "return.rate", "rate of the way back (default: as --rate)"},
		{"trace", "trace", "file with the rate over time: one millisecond per line for each 1500 bytes"},
		{"queue", "queue", "room at the bottleneck, such as 64KiB (default 4MiB)"},
		{"mtu", "mtu", "largest IP packet in bytes; larger datagrams are dropped"},
		{"overhead", "overhead", "bytes of headers counted with each datagram (default 28: IPv4 and UDP)"},
		{"reorder", "reorder", "share of datagrams that arrive later than those behind them"},
		{"reorder-by", "reorder_by", "how much later (default 10ms)"},
		{"duplicate", "duplicate", "share of datagrams that arrive twice"},
		{"corrupt", "corrupt", "share of datagrams with a bit flipped"},
		{"contacts", "contacts", "when the link can carry: every=2h,for=40m[,start=RFC3339]; without a start it begins with a contact"},
		{"rebind-every", "rebind_every", "how often a NAT on the way gives UDP clients new ports, such as 5m"},
		{"seed", "seed", "seed of loss, jitter and mishaps (default 1)"},
	}
}

func (a *app) simLinkCmd() *cobra.Command {
	var l linkFlags
	c := &cobra.Command{
		Use:   "link --listen HOST:PORT --to HOST:PORT",
		Short: "Put a bad link between two programs",
		Long: `Listen at one address and carry UDP datagrams and TCP connections to another,
with the delay, losses, rate and contacts of a far or thin link, until stopped.
It needs no privileges and works between any two programs; put its address where
the other end's would be, such as peers[].address or join --via.

--delay is the light time of one way. Datagrams that find the bottleneck's queue
full, or no contact, are dropped; TCP, whose users never see a loss, waits
instead. Both directions are alike but for --return-rate; a file can say more.
With --file the flags change what the file says.

The link is changed while it runs through the HTTP API that it names at the
start: GET and PATCH /v1/link, POST /v1/link/cut, heal, rebind, blackhole and
half-open?direction=up. Keys of the file and calls are in docs/emulator.md.

At the end it prints what it carried and dropped.`,
		Example: "  farhop sim link --listen 127.0.0.1:9330 --to 127.0.0.1:7330 --delay 1.28s --loss 1% --rate 50Mbit\n" +
			"  farhop sim link --listen 127.0.0.1:9330 --to 127.0.0.1:7330 --delay 300ms --contacts every=10m,for=4m\n" +
			"  farhop sim link --file moon.yaml --burst 10 --api 127.0.0.1:9331",
		Args: args(0, 0, ""),
	}
	f := c.Flags()
	for _, k := range linkKeyFlags() {
		f.String(k.name, "", k.use)
	}
	f.StringVar(&l.file, "file", "", "description of the link, YAML")
	f.StringVar(&l.between, "between", "", "which link of a file with several: the names of its two ends, such as luna,relay")
	f.StringVar(&l.api, "api", "127.0.0.1:0", "HOST:PORT of the HTTP API, port 0 for a free one; off for none")
	f.DurationVar(&l.run, "for", 0, "end after this time (default: go on)")
	f.BoolVar(&l.json, "json", false, "print the figures as one JSON value at the end")
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := a.linkDescription(c, &l)
		if err != nil {
			return err
		}
		return a.simLink(c.Context(), d, &l)
	}
	return c
}

// linkDescription reads the file and then the flags.
func (a *app) linkDescription(c *cobra.Command, l *linkFlags) (desc.Link, error) {
	d := desc.New()
	if l.file == "" {
		if err := need(c, "listen", "to"); err != nil {
			return d, err
		}
	} else {
		data, err := a.readFile(l.file, desc.MaxFile)
		if err != nil {
			return d, err
		}
		if d, err = l.choose(data, a.linkFiles(filepath.Dir(l.file))); err != nil {
			return d, failed("farhop sim link --help, or docs/emulator.md for all keys", "%v", err)
		}
	}
	if l.run < 0 {
		return d, usage(c, "--for: %s is negative", l.run)
	}
	var set []desc.Setting
	flags := map[string]string{} // by key
	for _, k := range linkKeyFlags() {
		flags[k.key] = k.name
		if f := c.Flags().Lookup(k.name); f.Changed {
			set = append(set, desc.Setting{Key: k.key, Value: f.Value.String()})
		}
	}
	d, err := d.Set(set, a.linkFiles("."))
	if f := (*desc.Fault)(nil); errors.As(err, &f) {
		return d, usage(c, "--%s: %v", cmp.Or(flags[f.Key], f.Key), f.Err)
	}
	if err := errors.Join(err, emulator.ConfigOf(d).Validate()); err != nil {
		return d, usage(c, "%v", err)
	}
	return d, nil
}

// choose reads the description of a file, or of one of the links in it.
func (l *linkFlags) choose(data []byte, files desc.Files) (desc.Link, error) {
	if !desc.Several(data) {
		if l.between != "" {
			return desc.Link{}, fmt.Errorf("%s describes one link and not between whom; leave --between out", l.file)
		}
		return desc.Parse(l.file, data, files)
	}
	all, err := desc.ParseLinks(l.file, data, files)
	if err != nil {
		return desc.Link{}, err
	}
	var names []string
	from, to, _ := strings.Cut(l.between, ",")
	for _, n := range all {
		switch {
		case n.Between == [2]string{from, to}, l.between == "" && len(all) == 1:
			return n.Link, nil
		case n.Between == [2]string{to, from}:
			return n.Turned().Link, nil
		}
		names = append(names, strings.Join(n.Between[:], ","))
	}
	return desc.Link{}, fmt.Errorf("%s has %d links; name one with --between, of %s", l.file, len(all), strings.Join(names, " "))
}

// linkFiles reads the files that a description in a folder names.
func (a *app) linkFiles(dir string) desc.Files {
	return func(path string) ([]byte, error) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		path, err := filepath.Abs(path) // a file called - is not standard input
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", path)
		}
		return a.readFile(path, desc.MaxTraceFile)
	}
}

func (a *app) simLink(ctx context.Context, d desc.Link, l *linkFlags) error {
	link, err := emulator.Open(emulator.ConfigOf(d))
	if err != nil {
		return err
	}
	if l.run > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.run)
		defer cancel()
	}
	g, ctx := errgroup.WithContext(ctx)
	if l.api != "off" {
		ln, err := net.Listen("tcp", apiAddr(l.api))
		if err != nil {
			link.Close()
			return failed("farhop sim link --api HOST:PORT", "listen for the API: %v", err)
		}
		dir := "."
		if l.file != "" {
			dir = filepath.Dir(l.file)
		}
		control := emulator.NewControl(link, d, a.linkFiles(dir))
		a.note("change it at http://%s/v1/link", ln.Addr())
		g.Go(func() error { return control.Serve(ctx, ln) })
	}
	a.note("%s at %s to %s: %s", d.Network, link.Addr(), d.To, d.Up)
	if back := d.Down.String(); back != d.Up.String() {
		a.note("back: %s", back)
	}
	g.Go(func() error { return link.Run(ctx) })
	err = g.Wait()
	return errors.Join(err, a.printLinkStats(link.Stats(), l.json))
}

// apiAddr is where the API listens: at this machine alone unless a host says
// otherwise.
func apiAddr(hostport string) string {
	if strings.HasPrefix(hostport, ":") {
		return "127.0.0.1" + hostport
	}
	return hostport
}

func (a *app) printLinkStats(s emulator.Stats, asJSON bool) error {
	if asJSON {
		return printJSON(a.out, s)
	}
	printLink(a.out, "up", s.Up)
	printLink(a.out, "down", s.Down)
	if s.Rebound > 0 {
		fmt.Fprintf(a.out, "%d new ports\n", s.Rebound)
	}
	if s.Up.Dropped.Memory+s.Down.Dropped.Memory > 0 {
		a.note("the emulator ran out of memory for packets under way: the figures are not those of such a link")
	}
	if s.Up.Overrun+s.Down.Overrun > 0 {
		a.note("the machine was too busy for the emulator: %d datagrams were lost before it read them", s.Up.Overrun+s.Down.Overrun)
	}
	return nil
}

func printLink(w io.Writer, name string, s emulator.DirStats) {
	text := fmt.Sprintf("%d of %d datagrams carried, %s", s.Packets, s.Offered, sizeText(int64(s.Bytes)))
	if s.StreamBytes > 0 {
		text += ", TCP " + sizeText(int64(s.StreamBytes))
	}
	var drops []string
	drop := func(n uint64, what string) {
		if n > 0 {
			drops = append(drops, fmt.Sprintf("%d %s", n, what))
		}
	}
	drop(s.Dropped.Loss, "lost")
	drop(s.Dropped.Queue, "found the queue full")
	drop(s.Dropped.Closed, "found no contact")
	drop(s.Dropped.Cut, "cut")
	drop(s.Dropped.Blackhole, "swallowed")
	drop(s.Dropped.MTU, "larger than the MTU")
	drop(s.Dropped.Rebound, "to a port that was gone")
	drop(s.Dropped.Memory, "found no memory")
	drop(s.Dropped.Undelivered, "refused by the receiver")
	also := func(n uint64, what string) {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, what)
		}
	}
	also(s.Duplicated, "twice")
	also(s.Reordered, "out of order")
	also(s.Corrupted, "damaged")
	if len(drops) > 0 {
		text += "; " + strings.Join(drops, ", ")
	}
	fmt.Fprintf(w, "%-5s %s\n", name, text)
}
