package link

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/salvo"
	"github.com/farhop/farhop/node/salvo/packet"
)

// salvoTotals are sums over sessions, those that are over among them.
type salvoTotals struct {
	packets, bytes [2]int64 // out, in
	repeated       int64    // symbols sent again
	repaired       int64    // trains completed with parity
	halvings       int64    // of the rate, by the breaker
	unsent         int64    // packets the socket did not take
	reread         int64    // payloads read again to repair what was lost
	gone           int64    // blocks given up because custody had ended
	drops          [packet.NumDrops]int64
}

func (t *salvoTotals) add(st SalvoStats) {
	t.packets[0] += st.Out.Packets
	t.bytes[0] += st.Out.Bytes
	t.packets[1] += st.In.Packets
	t.bytes[1] += st.In.Bytes
	t.repeated += st.Out.Repeated
	t.repaired += st.In.Repaired
	t.halvings += st.Out.Halvings
	t.unsent += int64(st.Unsent)
	t.reread += int64(st.Reread)
	t.gone += int64(st.Gone)
	for _, drops := range []salvo.Drops{st.Out.Drops, st.In.Drops} {
		for i, n := range drops {
			t.drops[i] += n
		}
	}
}

// salvoCollector tells of all sessions, without a label for each.
type salvoCollector struct{ m *Manager }

// The descriptions, in the order of Collect.
func salvoDescs() []*prometheus.Desc {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("farhop_link_salvo_"+name, help, labels, nil)
	}
	return []*prometheus.Desc{
		desc("packets_total", "Data packets of salvo.", "direction"),
		desc("bytes_total", "UDP payload of data packets of salvo.", "direction"),
		desc("symbols_repeated_total", "Symbols sent again because they were missing."),
		desc("trains_repaired_total", "Trains completed with parity."),
		desc("halvings_total", "Times the breaker halved the rate because far more was lost than declared."),
		desc("unsent_total", "Packets that the socket did not take."),
		desc("payloads_reread_total", "Payloads read again from the store to repair what was lost of them."),
		desc("blocks_gone_total", "Blocks given up because custody of what was in them ended before they were repaired."),
		desc("drops_total", "Packets of salvo that were dropped, by reason.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (c *salvoCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range salvoDescs() {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *salvoCollector) Collect(out chan<- prometheus.Metric) {
	t := c.m.salvoTotals()
	descs := salvoDescs()
	put := func(i int, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(descs[i], prometheus.CounterValue, float64(v), labels...)
	}
	for i, direction := range []string{"out", "in"} {
		put(0, t.packets[i], direction)
		put(1, t.bytes[i], direction)
	}
	put(2, t.repeated)
	put(3, t.repaired)
	put(4, t.halvings)
	put(5, t.unsent)
	put(6, t.reread)
	put(7, t.gone)
	for d := range packet.Drop(packet.NumDrops) {
		put(8, t.drops[d], d.String())
	}
}

// salvoTotals sums what is over and what is up.
func (m *Manager) salvoTotals() salvoTotals {
	m.endedMu.Lock()
	defer m.endedMu.Unlock()
	t := m.ended
	for s := range m.carried {
		if st, ok := s.Salvo(); ok {
			t.add(st)
		}
	}
	return t
}

// count begins to count a session; the result ends that.
func (m *Manager) count(s *Session) (done func()) {
	m.endedMu.Lock()
	defer m.endedMu.Unlock()
	m.carried[s] = true
	return func() {
		m.endedMu.Lock()
		defer m.endedMu.Unlock()
		if st, ok := s.Salvo(); ok {
			m.ended.add(st)
		}
		delete(m.carried, s)
	}
}
