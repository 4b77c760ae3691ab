package main

import (
	"fmt"
	"io"

	"github.com/farhop/farhop/sim/bench/mqtt"
)

func rateText(v float64) string {
	if v == 0 {
		return ""
	}
	if v < 1000 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// cpuText writes a processor time per message, "" for none.
func cpuText(us float64) string {
	if us == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f µs", us)
}

func shareText(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", v)
}

// printBenchWorkloads writes the report for people.
func printBenchWorkloads(w io.Writer, r mqtt.Report) error {
	fmt.Fprintf(w, "%d bytes, %.1f s of each workload, median of %s; %d CPUs, %s/%s%s\n\n", r.Size, r.Seconds,
		count(r.Rounds, "round", "rounds"), r.Machine.CPUs, r.Machine.OS, r.Machine.Arch, besideText(r.Machine))
	t := newTable("WORKLOAD", "MSG/S", "CPU/MSG", "PEER MSG/S", "CPU/MSG", "OF ITS RATE", "OF ITS CPU", "LOAD CPU/MSG")
	for _, x := range r.Workloads {
		t.row(x.Name, rateText(x.Rate), cpuText(x.CPU), rateText(x.PeerRate), cpuText(x.PeerCPU),
			shareText(x.RateRatio), shareText(x.CPURatio), cpuText(x.Generator))
	}
	if err := t.print(w); err != nil {
		return err
	}
	for _, x := range r.Workloads {
		printFaults(w, x.Name+": farhop", x.Lost, x.Wrong, x.Stalled, x.All)
		printFaults(w, x.Name+": "+r.Machine.Peer, x.PeerLost, x.PeerWrong, x.PeerStalled, x.AllPeer)
	}
	return nil
}

func besideText(m mqtt.Machine) string {
	if m.Peer == "" {
		return ""
	}
	return fmt.Sprintf("; beside %s %s", m.Peer, m.PeerVersion)
}

// printFaults tells of what no broker should do.
func printFaults(w io.Writer, who string, lost, wrong uint64, stalled int, rounds []mqtt.Round) {
	if lost+wrong > 0 {
		fmt.Fprintf(w, "%s: %d lost, %d repeated or out of order\n", who, lost, wrong)
	}
	if stalled == 0 {
		return
	}
	fmt.Fprintf(w, "%s: stalled in %d of %s", who, stalled, count(len(rounds), "round", "rounds"))
	for _, x := range rounds {
		if x.Stalled {
			fmt.Fprintf(w, ", after %d messages", x.After)
		}
	}
	fmt.Fprintln(w)
}

func printBenchIdle(w io.Writer, r mqtt.IdleReport) error {
	fmt.Fprintf(w, "%d idle connections, one subscription each; memory after %.0f s, processor over %.0f s%s\n\n",
		r.Connections, r.Settle, r.Seconds, besideText(r.Machine))
	t := newTable("BROKER", "KIB/CONNECTION", "NOT FILES", "OF A CORE")
	row := func(name string, kib, anon, cpu float64) {
		t.row(name, fmt.Sprintf("%.2f", kib), fmt.Sprintf("%.2f", anon), fmt.Sprintf("%.2f %%", 100*cpu))
	}
	row("farhop", r.KiB, r.KiBAnon, r.CPU)
	if r.Machine.Peer != "" {
		row(r.Machine.Peer, r.PeerKiB, r.PeerKiBAnon, r.PeerCPU)
	}
	return t.print(w)
}

func printBenchMoon(w io.Writer, r mqtt.MoonReport) error {
	fmt.Fprintf(w, "%.2f s one way, %d Mbit/s, %d bytes; %.2f s measured, %.2f s after the first message arrived%s\n\n",
		r.OWLT, r.Rate/1_000_000, r.Size, r.Seconds, r.Warm, besideText(r.Machine))
	t := newTable("BROKERS", "SETTING", "QOS", "MSG/S", "LOST", "WRONG", "CPU/MSG", "LINK MB")
	for _, x := range r.Runs {
		rate := rateText(x.Rate)
		if x.Stalled {
			rate = "stalled"
		}
		t.row(x.Broker, x.Setting, fmt.Sprint(x.QoS), rate, fmt.Sprint(x.Lost), fmt.Sprint(x.Wrong), cpuText(x.CPU), fmt.Sprintf("%.1f", x.LinkMB))
	}
	return t.print(w)
}

func printBenchTsung(w io.Writer, r mqtt.TsungReport) error {
	fmt.Fprintf(w, "%d users of tsung, %d messages of %d bytes with QoS 1%s\n\n", r.Users, r.Messages, r.Size, besideText(r.Machine))
	t := newTable("CPU/MSG", "PEER", "RATIO", "ANSWER MS", "PEER")
	t.row(cpuText(r.CPU), cpuText(r.PeerCPU), fmt.Sprintf("%.2f", r.CPURatio), fmt.Sprintf("%.2f", r.Answer), fmt.Sprintf("%.2f", r.PeerAnswer))
	return t.print(w)
}

func printBenchHostile(w io.Writer, r mqtt.HostileReport) error {
	fmt.Fprintf(w, "%d messages/s of the well-behaved, %.0f s without and with each attack; %d CPUs, %s/%s\n\n",
		r.Rate, r.Seconds, r.Machine.CPUs, r.Machine.OS, r.Machine.Arch)
	t := newTable("ATTACK", "THEY KEEP", "DURABLE", "P99", "BEFORE", "DURABLE P99", "BEFORE", "MIB MORE", "CORES", "CONNECTS/S", "PACKETS/S")
	millis := func(v float64) string { return fmt.Sprintf("%.1f ms", v) }
	for _, x := range r.Attacks {
		t.row(x.Name, fmt.Sprintf("%.3f", x.Share), fmt.Sprintf("%.3f", x.DurableShare), millis(x.P99), millis(x.BaseP99), millis(x.DurableP99),
			millis(x.BaseDurable), fmt.Sprintf("%.0f", x.RSS), fmt.Sprintf("%.2f", x.CPU),
			fmt.Sprintf("%.0f", float64(x.Counts.Connects)/max(x.Over, 1)), fmt.Sprintf("%.0f", float64(x.Counts.Packets)/max(x.Over, 1)))
	}
	if err := t.print(w); err != nil {
		return err
	}
	for _, x := range r.Attacks {
		if x.Fault != "" || x.Lost+x.Wrong > 0 {
			fmt.Fprintf(w, "%s: %d lost, %d repeated or out of order; %s\n", x.Name, x.Lost, x.Wrong, x.Fault)
		}
	}
	return nil
}
