package main

import (
	"fmt"
	"io"

	"github.com/farhop/farhop/sim/bench/mqtt"
	"github.com/farhop/farhop/sim/bench/mqtt/crowd"
)

func printBenchSessions(w io.Writer, r crowd.Report) error {
	fmt.Fprintf(w, "%d idle sessions, one subscription each; memory after %.0f s, processor over %.0f s\n\n", r.Sessions, r.Settle, r.Seconds)
	t := newTable("BYTES/SESSION", "LIVE", "IN THE HEAP", "GOROUTINES", "OF A CORE", "CONNECTS/S")
	t.row(fmt.Sprintf("%.0f", r.Bytes), fmt.Sprintf("%.0f", r.Live), fmt.Sprintf("%.0f", r.Heap), fmt.Sprintf("%.2f", r.Goroutines),
		fmt.Sprintf("%.2f %%", 100*r.CPU), fmt.Sprintf("%.0f", r.Connecting))
	return t.print(w)
}

func printBenchQueued(w io.Writer, r mqtt.QueuedReport) error {
	fmt.Fprintf(w, "%d messages of %d bytes for one client that is away; filled at %.0f a second\n\n", r.Queued, r.Size, r.FillRate)
	t := newTable("MIB BEFORE", "WITH ALL", "AFTER A KILL", "GROWTH", "PEAK", "START", "FIRST", "MSG/S OUT", "IN ORDER")
	order := "yes"
	if !r.InOrder {
		order = fmt.Sprintf("no: %d missing, %d repeated or out of order", r.Missing, r.Wrong)
	}
	t.row(fmt.Sprintf("%.1f", r.Before), fmt.Sprintf("%.1f", r.Full), fmt.Sprintf("%.1f", r.Resumed), fmt.Sprintf("%.1f", r.Growth), fmt.Sprintf("%.1f", r.Peak),
		fmt.Sprintf("%.2f s", r.Restart), fmt.Sprintf("%.2f s", r.First), fmt.Sprintf("%.0f", r.DrainRate), order)
	return t.print(w)
}

func printBenchRetained(w io.Writer, r mqtt.RetainedReport) error {
	fmt.Fprintf(w, "%d retained messages of %d bytes; set at %.0f a second\n\n", r.Retained, r.Size, r.SetRate)
	t := newTable("BYTES EACH", "OTHERS ALONE", "WITH A STALLED READER", "OF THEIR RATE", "ITS MSG/S IN THE END", "MISSING", "a/+/c")
	t.row(fmt.Sprintf("%.0f", r.BytesEach), fmt.Sprintf("%.0f/s", r.AloneRate), fmt.Sprintf("%.0f/s", r.StalledRate), fmt.Sprintf("%.2f", r.Share),
		fmt.Sprintf("%.0f", r.DrainRate), fmt.Sprint(r.Missing), fmt.Sprintf("%.1f ms", r.PointMS))
	return t.print(w)
}
