package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Report is what a run showed. Its JSON form is what --json prints.
type Report struct {
	OK       bool     `json:"ok"`
	Broken   []string `json:"broken"` // promises that were not kept, empty when OK
	Seed     uint64   `json:"seed"`
	Duration float64  `json:"duration_s"` // from the start of the nodes to the end of draining

	Published    int `json:"published"`
	Acknowledged int `json:"acknowledged"` // by the publisher's node
	Delivered    int `json:"delivered"`    // different messages that arrived at the subscriber
	Lost         int `json:"lost"`         // acknowledged and not delivered
	Duplicates   int `json:"duplicates"`
	OutOfOrder   int `json:"out_of_order"` // delivered after a later one of the same publisher
	Damaged      int `json:"damaged"`      // deliveries of what nobody published
	Expired      int `json:"expired"`      // by the nodes' own count

	Latency      Latency `json:"latency_ms"` // from before the publish to the delivery
	Outages      int     `json:"outages"`
	Restarts     int     `json:"restarts"` // of a node, after SIGKILL
	Links        []Link  `json:"links"`
	BytesOnLinks uint64  `json:"bytes_on_links"` // UDP payload carried, both ways
	TCP          TCP     `json:"tcp"`
	Fleet        Fleet   `json:"fleet"`
	Store        Store   `json:"store"`
}

// Latency is in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// Link is one link of the world.
type Link struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	DelayMS float64 `json:"delay_ms"` // one way, the least
	Loss    float64 `json:"loss"`     // of datagrams, 0 to 1
	Kex     string  `json:"kex"`      // key exchange that TLS negotiated
	Layer   string  `json:"layer"`    // what carries the bundles: quic or salvo
	Goodput float64 `json:"kbit_s"`   // the most that From sent in a moment
}

// TCP is what the TCP client saw.
type TCP struct {
	Bytes     int64 `json:"bytes"`     // both ways
	Exchanges int   `json:"exchanges"` // completed
	Sha256OK  bool  `json:"sha256_ok"` // all came back as they were sent
	Failovers int   `json:"failovers"` // to a server in another region
	Retries   int   `json:"retries"`   // after a connection broke
}

// Fleet counts nodes by what they made of the revision.
type Fleet struct {
	Revision uint64 `json:"revision"`
	Applied  int    `json:"applied"`
	Pending  int    `json:"pending"`
	Refused  int    `json:"refused"`
}

// Store is the buffer of the nodes.
type Store struct {
	Engine    string `json:"engine"`
	PeakBytes int64  `json:"peak_bytes"` // most that one node kept at a time
}

// report makes the report of what was seen.
func (s *stage) report() Report {
	t, tcp := s.ledger.tally(""), s.survey.seen()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{
		Seed: s.cfg.Seed, Duration: time.Since(s.start).Round(time.Millisecond).Seconds(),
		Published: t.published, Acknowledged: t.acked, Delivered: t.delivered, Lost: t.lost, Duplicates: t.duplicates,
		OutOfOrder: t.late, Damaged: t.strange,
		Latency: Latency{ms(t.p(0.5)), ms(t.p(0.99)), ms(t.p(0)), ms(t.p(1))},
		Outages: s.outages, Restarts: s.restarts,
		Links: []Link{
			{luna, relay, ms(least(&s.links.moon)), s.links.moon.Up.Loss, s.seen[luna].kex, s.seen[luna].layer, s.seen[luna].most},
			{relay, earth, ms(least(&s.links.ground)), s.links.ground.Up.Loss, s.seen[earth].kex, s.seen[earth].layer, s.seen[earth].most},
		},
		TCP: TCP{
			Bytes: tcp.bytes, Sha256OK: tcp.unequal == 0 && len(tcp.done) > 0, Failovers: tcp.failovers, Retries: tcp.broken,
		},
	}
	for _, n := range tcp.done {
		r.TCP.Exchanges += n
	}
	for _, st := range []struct{ up, down uint64 }{
		{s.world.moon.Stats().Up.Bytes, s.world.moon.Stats().Down.Bytes}, {s.world.ground.Stats().Up.Bytes, s.world.ground.Stats().Down.Bytes},
	} {
		r.BytesOnLinks += st.up + st.down
	}
	r.Fleet.Revision = s.pushed
	r.Fleet.Applied, r.Fleet.Pending, r.Fleet.Refused = s.progress()
	for _, o := range s.seen {
		r.Expired += int(o.expired + o.Counters.Ended["expired"])
		r.Store.PeakBytes = max(r.Store.PeakBytes, o.peak)
		r.Store.Engine = max(r.Store.Engine, o.Store.Engine)
	}
	r.judge()
	if len(r.Broken) > 0 {
		r.Broken = append(r.Broken, s.ledger.missing()...)
	}
	return r
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// judge says which promises were not kept.
func (r *Report) judge() {
	r.Broken = []string{}
	law := func(kept bool, format string, args ...any) {
		if !kept {
			r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
		}
	}
	law(r.Acknowledged > 0, "no message was acknowledged")
	law(r.Lost == 0, "%d of %d acknowledged messages did not arrive", r.Lost, r.Acknowledged)
	law(r.Duplicates == 0, "%d deliveries were repetitions", r.Duplicates)
	law(r.OutOfOrder == 0, "%d messages arrived after a later one of the same publisher", r.OutOfOrder)
	law(r.Damaged == 0, "%d deliveries were of messages that nobody published", r.Damaged)
	law(r.Expired == 0, "%d messages expired, with three days to live", r.Expired)
	law(r.Delivered == 0 || r.Latency.Min >= r.Links[0].DelayMS, "a message arrived after %.1f ms, light takes %.0f ms", r.Latency.Min, r.Links[0].DelayMS)
	law(r.TCP.Sha256OK, "bytes of the TCP service came back different, or not at all")
	law(r.TCP.Failovers > 0, "the TCP service did not fail over to the other region")
	law(r.Fleet.Revision > 0 && r.Fleet.Applied == len(names()), "revision %d is applied on %d of %d nodes", r.Fleet.Revision, r.Fleet.Applied, len(names()))
	law(r.Outages > 0 && r.Restarts > 0, "there were %d outages and %d restarts, which proves nothing", r.Outages, r.Restarts)
	for _, l := range r.Links {
		law(strings.Contains(l.Kex, "MLKEM"), "the link %s-%s negotiated %q, not a post-quantum key exchange", l.From, l.To, l.Kex)
	}
	law(r.Links[0].Layer == "salvo", "the link %s-%s, which loses packets and is far, used %q, not salvo", luna, relay, r.Links[0].Layer)
	r.OK = len(r.Broken) == 0
}

// Text writes the report for people.
func (r Report) Text(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "\nafter %.1f s with %d outages and %d SIGKILL (seed %d):\n", r.Duration, r.Outages, r.Restarts, r.Seed)
	line("messages", "%d acknowledged, %d delivered: %d lost, %d repeated, %d out of order, %d expired",
		r.Acknowledged, r.Delivered, r.Lost, r.Duplicates, r.OutOfOrder, r.Expired)
	line("latency", "min %.0f ms (light: %.0f), median %.0f, 99 %% %.0f, most %.0f", r.Latency.Min, r.Links[0].DelayMS, r.Latency.P50, r.Latency.P99, r.Latency.Max)
	equal := map[bool]string{true: "equal", false: "NOT equal"}[r.TCP.Sha256OK]
	line("TCP", "%d exchanges, %d bytes, %s; %d failed over, %d tried again", r.TCP.Exchanges, r.TCP.Bytes, equal, r.TCP.Failovers, r.TCP.Retries)
	line("fleet", "revision %d: applied on %d nodes, pending %d, refused %d", r.Fleet.Revision, r.Fleet.Applied, r.Fleet.Pending, r.Fleet.Refused)
	for _, l := range r.Links {
		line("link", "%s-%s: %.0f ms, loss %g %%, %s, %s with %.0f kbit/s at most", l.From, l.To, l.DelayMS, 100*l.Loss, l.Kex, l.Layer, l.Goodput)
	}
	line("carried", "%d bytes on links; a node kept %d bytes at most (%s)", r.BytesOnLinks, r.Store.PeakBytes, r.Store.Engine)
	if r.OK {
		b.WriteString("Every acknowledged message arrived exactly once and in order.\n")
	}
	for _, text := range r.Broken {
		fmt.Fprintf(&b, "BROKEN: %s\n", text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
