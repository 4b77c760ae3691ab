package durable

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// returned is the share of the disk that counts as given back.
const returned = 0.99

// BacklogReport is what RunBacklog found. Rates are bundles a second.
type BacklogReport struct {
	Engine     string `json:"engine"`
	FileSystem string `json:"fs"`
	CPUs       int    `json:"cpus"`
	Size       int    `json:"size"`
	Producers  int    `json:"producers"`
	Backlog    int    `json:"backlog"`

	Filled

	Killed         float64 `json:"reopen_killed_ms"` // after SIGKILL, files in the page cache; 0 when not measured
	Reopen         float64 `json:"reopen_ms"`        // after a clean close, files in the page cache
	Cold           float64 `json:"reopen_cold_ms"`   // after a clean close, files out of the page cache
	ReopenedRSS    float64 `json:"rss_reopened_mb"`
	ReopenedAnon   float64 `json:"rss_anon_reopened_mb"`
	Drained        int     `json:"drained"`     // less than queued when the drain took too long; what follows it is 0 then
	Drain          float64 `json:"drain_per_s"` // scanned, read back, compared, removed
	Disk           float64 `json:"disk_mb"`     // of the full store
	DiskAfter      float64 `json:"disk_after_mb"`
	ReturnedShare  float64 `json:"disk_returned_share"` // within Config.Return of the drain
	ReturnedMillis float64 `json:"disk_returned_ms"`    // until 99 % were; -1 when they were not in that time

	Commit           float64 `json:"commit_us"` // one put alone, in the drained store, median
	CommitFresh      float64 `json:"commit_fresh_us"`
	CommitShare      float64 `json:"commit_share"` // drained over fresh, within each pair: 1 is as fast as fresh
	CommitBytes      float64 `json:"commit_bytes"` // written to the disk for it
	CommitFreshBytes float64 `json:"commit_fresh_bytes"`
}

// Filled is what filling a store showed.
type Filled struct {
	Queued    int     `json:"queued"`          // bundles that wait, the ones of the rounds at the end among them
	Fill      float64 `json:"fill_per_s"`      // over the whole backlog
	PutEmpty  float64 `json:"put_empty_per_s"` // into a new store, median
	PutFull   float64 `json:"put_full_per_s"`  // with the backlog in it, median
	FullShare float64 `json:"put_full_share"`  // full over empty, within each round
	WA        float64 `json:"fill_write_amplification"`
	RSS       float64 `json:"rss_mb"` // with the backlog; the load is in the same process
	RSSAnon   float64 `json:"rss_anon_mb"`
	AnonPeak  float64 `json:"rss_anon_peak_mb"` // highest while filling
}

// RunBacklog fills a store with c.Backlog bundles, kills it, opens it again,
// drains it, and looks at what is left. It makes a folder below c.Dir and
// removes it.
func RunBacklog(ctx context.Context, c Config, note Note) (r BacklogReport, err error) {
	s, err := newSite(c, note)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	c = s.c
	if c.Engine == Memory {
		return r, errors.New("engine: memory keeps nothing: a backlog needs another")
	}
	r = BacklogReport{
		Engine: c.Engine, FileSystem: proc.FileSystem(s.dir), CPUs: runtime.NumCPU(),
		Size: c.Size, Producers: c.Producers, Backlog: c.Backlog,
	}
	inner := c
	inner.Dir = s.fresh()
	if len(c.Filler) > 0 {
		r.Filled, err = fillApart(ctx, inner, s.note)
	} else {
		r.Filled, err = Fill(ctx, inner, s.note)
	}
	if err != nil {
		return r, fmt.Errorf("fill: %w", err)
	}
	s.note("%d queued: put %.0f/s full, %.0f/s empty, %.0f MB of memory", r.Queued, r.PutFull, r.PutEmpty, r.RSSAnon)
	store := filepath.Join(inner.Dir, fullStore)
	if err := s.reopen(&r, store); err != nil {
		return r, err
	}
	s.note("opened in %.0f ms, after a kill %.0f, cold %.0f", r.Reopen, r.Killed, r.Cold)
	return r, s.empty(ctx, &r, store)
}

// fullStore is the folder of the backlog within Config.Dir of Fill.
const fullStore = "full"

// Fill fills a store, in the folder "full" of c.Dir, and compares puts into it
// with puts into an empty one. The store is closed when it returns.
func Fill(ctx context.Context, c Config, note Note) (f Filled, err error) {
	l, err := NewLoad(c.Size)
	if err != nil {
		return f, err
	}
	sink, err := Open(c.Engine, filepath.Join(c.Dir, fullStore), l, c.Producers)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	return f, f.fill(ctx, c, l, sink, note)
}

// FillAndWait is Fill for a process that is to be killed: it writes what it
// found as one line of JSON and waits for the end of in, or of its life.
func FillAndWait(ctx context.Context, config string, in io.Reader, out io.Writer) error {
	var c Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return fmt.Errorf("configuration of the filler: %w", err)
	}
	l, err := NewLoad(c.Size)
	if err != nil {
		return err
	}
	sink, err := Open(c.Engine, filepath.Join(c.Dir, fullStore), l, c.Producers)
	if err != nil {
		return err
	}
	var f Filled
	err = f.fill(ctx, c, l, sink, func(string, ...any) {})
	if err == nil {
		err = json.NewEncoder(out).Encode(f)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in) // the caller kills
	}
	return errors.Join(err, sink.Close())
}

// fillApart has another process fill the store, and kills it.
func fillApart(ctx context.Context, c Config, note Note) (f Filled, err error) {
	config, err := json.Marshal(c)
	if err != nil {
		return f, err
	}
	cmd := exec.CommandContext(ctx, c.Filler[0], append(c.Filler[1:len(c.Filler):len(c.Filler)], string(config))...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // stays open: its end would close the store
	if err != nil {
		return f, err
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return f, err
	}
	note("filling with %d bundles of %d bytes, in a process that is killed then", c.Backlog, c.Size)
	if err := cmd.Start(); err != nil {
		return f, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &f)
	}
	killed := cmd.Process.Kill()
	wait := cmd.Wait()
	if err != nil {
		return f, errors.Join(fmt.Errorf("the filler: %w", err), killed, wait)
	}
	return f, killed
}

// fill fills an open store.
func (f *Filled) fill(ctx context.Context, c Config, l *Load, full Sink, note Note) error {
	const slices = 50
	written, err := proc.Written(os.Getpid())
	if err != nil {
		return err
	}
	begin := time.Now()
	for i := range slices {
		n := c.Backlog/slices + (c.Backlog%slices*(i+1)/slices - c.Backlog%slices*i/slices)
		r, err := Drive(ctx, full, l, Part{Producers: c.Producers, Messages: n})
		if err != nil {
			return err
		}
		f.Queued += r.Durable
		m, err := proc.MemoryOf(os.Getpid())
		if err != nil {
			return err
		}
		f.AnonPeak = max(f.AnonPeak, megabytes(m.Anonymous))
		f.RSS, f.RSSAnon = megabytes(m.Resident), megabytes(m.Anonymous)
		if (i+1)%10 == 0 {
			note("%d queued", f.Queued)
		}
	}
	f.Fill = Ratio(float64(f.Queued), time.Since(begin).Seconds())
	after, err := proc.Written(os.Getpid())
	if err != nil {
		return err
	}
	f.WA = Ratio(float64(after-written), float64(f.Queued*c.Size))
	return f.compare(ctx, c, l, full)
}

// compare puts into the full store and into new ones, in turn.
func (f *Filled) compare(ctx context.Context, c Config, l *Load, full Sink) error {
	type pair struct{ full, empty float64 }
	var pairs []pair
	for i := range c.Rounds {
		var p pair
		for j := range 2 {
			if (i+j)%2 == 0 {
				r, err := Drive(ctx, full, l, Part{Producers: c.Producers, Messages: c.Messages, Limit: c.Limit})
				if err != nil {
					return err
				}
				p.full = r.PerSecond
				f.Queued += r.Durable
				continue
			}
			m, err := Measure(ctx, c.Engine, filepath.Join(c.Dir, fmt.Sprintf("empty-%d", i)), l,
				Part{Producers: c.Producers, Messages: c.Messages, Limit: c.Limit})
			if err != nil {
				return err
			}
			p.empty = m.PerSecond
		}
		pairs = append(pairs, p)
	}
	f.PutFull = Median(pairs, func(p pair) float64 { return p.full })
	f.PutEmpty = Median(pairs, func(p pair) float64 { return p.empty })
	f.FullShare = Median(pairs, func(p pair) float64 { return Ratio(p.full, p.empty) })
	return nil
}

// reopen opens the full store after the kill, out of the page cache, and once
// more.
func (s *site) reopen(r *BacklogReport, dir string) error {
	opened := func(to *float64) error {
		took, err := reopened(s.c.Engine, dir, r.Queued)
		*to = float64(took) / float64(time.Millisecond)
		return err
	}
	if len(s.c.Filler) > 0 {
		if err := opened(&r.Killed); err != nil {
			return fmt.Errorf("after the kill: %w", err)
		}
	}
	if err := forget(dir); err != nil {
		return err
	}
	if err := opened(&r.Cold); err != nil {
		return fmt.Errorf("cold: %w", err)
	}
	return opened(&r.Reopen)
}

// forget drops the files of a folder out of the page cache.
func forget(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		// What was not synced cannot be dropped.
		if err := errors.Join(f.Sync(), proc.Forget(f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
