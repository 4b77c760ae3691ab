package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/dtn"
	"github.com/farhop/farhop/storeforward/bundle"
)

// doorMetrics shows the counters of the doors.
type doorMetrics struct {
	d                                            *doors
	up, sessions, inFlight, held                 *prometheus.Desc
	bundles, bytes, refusals, turnedAway, budget *prometheus.Desc
	actions, refused, dropped, sent, retries     *prometheus.Desc
	exported, passed, fell                       *prometheus.Desc
}

func newDoorMetrics(d *doors) *doorMetrics {
	m := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("farhop_dtn_"+name, help, labels, nil)
	}
	return &doorMetrics{
		d:          d,
		up:         m("peer_up", "Whether a peer of another DTN stack is connected.", "peer"),
		sessions:   m("inbound_sessions", "Connections that others made to the doors."),
		inFlight:   m("in_flight", "Bundles offered to a peer and not answered.", "peer"),
		held:       m("held_bytes", "Received bytes that wait for the disk."),
		bundles:    m("bundles_total", "Whole bundles, by peer and direction; in is what it sent.", "peer", "dir"),
		bytes:      m("bytes_total", "Bytes of these bundles.", "peer", "dir"),
		refusals:   m("refusals_total", "Bundles refused, by peer and direction; in is what it refused.", "peer", "dir"),
		turnedAway: m("turned_away_total", "Connections closed because there were too many."),
		budget:     m("budget_refusals_total", "Bundles refused because too many bytes waited for the disk."),
		actions:    m("arrived_total", "Bundles that arrived, by what was done with them.", "action"),
		refused:    m("refused_total", "Bundles that arrived and were not wanted, by reason.", "reason"),
		dropped:    m("dropped_total", "Bundles and exports that ended undelivered, by reason.", "reason"),
		sent:       m("sent_total", "Kept bundles that a peer acknowledged."),
		retries:    m("retries_total", "Bundles offered to a peer once more."),
		exported:   m("exported_total", "Bundles made of publications."),
		passed:     m("passed_total", "Bundles that passed without being stored."),
		fell:       m("passed_stored_total", "Bundles that were to pass and were stored."),
	}
}

// Describe implements prometheus.Collector.
func (m *doorMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.sent }

// Collect implements prometheus.Collector.
func (m *doorMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	traffic := func(peer string, s dtn.Stats) {
		count(m.bundles, s.BundlesIn, peer, "in")
		count(m.bundles, s.BundlesOut, peer, "out")
		count(m.bytes, s.BytesIn, peer, "in")
		count(m.bytes, s.BytesOut, peer, "out")
		count(m.refusals, s.RefusalsIn, peer, "in")
		count(m.refusals, s.RefusalsOut+s.Dropped, peer, "out")
	}
	for _, p := range m.d.door.Peers() {
		up := int64(0)
		if p.Up {
			up = 1
		}
		gauge(m.up, up, p.Name)
		gauge(m.inFlight, int64(p.InFlight), p.Name)
		traffic(p.Name, p.Stats)
	}
	st := m.d.door.Stats()
	traffic("", st.Strangers)
	gauge(m.sessions, int64(st.Sessions))
	gauge(m.held, st.Held)
	count(m.turnedAway, st.TurnedAway)
	count(m.budget, st.BudgetRefusals)
	c := &m.d.counts
	for kind, name := range map[dtn.ActionKind]string{
		dtn.Publish: "publish", dtn.Carry: "carry", dtn.Forward: "forward", dtn.Gather: "gather", dtn.Report: "report",
	} {
		count(m.actions, int64(c.actions[kind].Load()), name)
	}
	for r := range bundle.Reason(bundle.NumReasons) {
		if r != bundle.OK {
			count(m.refused, int64(c.refused[r].Load()), r.String())
			count(m.dropped, int64(c.dropped[r].Load()), r.String())
		}
	}
	count(m.sent, int64(c.sent.Load()))
	count(m.retries, int64(c.retries.Load()))
	count(m.exported, int64(c.made.Load()))
	count(m.passed, int64(m.d.cut.passed.Load()))
	count(m.fell, int64(m.d.cut.fell.Load()))
}

// view describes the peers of the doors. Without doors there are none.
func (d *doors) view() (out []admin.Peer) {
	if d == nil {
		return nil
	}
	for _, p := range d.door.Peers() {
		ap := admin.Peer{
			Name: p.Name, Kind: string(p.Kind), Address: p.Address, State: admin.PeerDown, Kex: p.Kex,
			RTTms: float64(p.RTT) / float64(time.Millisecond), InFlight: p.InFlight,
			SentBytes: uint64(p.BytesOut), ReceivedBytes: uint64(p.BytesIn), LastError: p.LastError,
		}
		if p.Up {
			ap.State, ap.Since, ap.LastError = admin.PeerUp, p.Since.UTC(), ""
		}
		if ap.Address == "" {
			ap.Address = p.Remote
		}
		if ap.State == admin.PeerDown && ap.LastError == "" && p.Address == "" {
			ap.LastError = "it is the one that dials"
		}
		out = append(out, ap)
	}
	return out
}
