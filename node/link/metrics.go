package link

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the link layer. Labels are bounded: causes are constants.
type metrics struct {
	ups     prometheus.Counter
	downs   *prometheus.CounterVec
	dials   *prometheus.CounterVec
	refused *prometheus.CounterVec
	joins   prometheus.Counter
	early   *prometheus.CounterVec
	strays  *prometheus.CounterVec
	moves   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, m *Manager) (*metrics, error) {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "farhop", Subsystem: "link", Name: name, Help: help}, []string{label})
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "farhop", Subsystem: "link", Name: name, Help: help})
	}
	met := &metrics{
		ups:     one("ups_total", "Sessions that came up."),
		downs:   vec("downs_total", "Sessions that ended, by cause.", "cause"),
		dials:   vec("dials_total", "Attempts to dial a peer, by result.", "result"),
		refused: vec("refused_total", "Inbound connections that got no session, by cause.", "cause"),
		early:   vec("early_total", "Connections with data in their first flight: sent and refused of those dialled, received, and of these stale: heard and not taken.", "result"),
		joins:   one("joins_total", "Newcomers served."),
		strays:  vec("strays_total", "Packets that belong to nobody: of QUIC without a connection, and such as are no QUIC and found no association of salvo, by cause.", "cause"),
		moves:   vec("moves_total", "Links that went over TCP because no UDP passed, and those that came back, by the layer they went to.", "layer"),
	}
	if reg == nil {
		return met, nil
	}
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "farhop", Subsystem: "link", Name: "sessions", Help: "Sessions that are up.",
	}, func() float64 { return float64(len(m.reg.sessions())) })
	var errs []error
	for _, c := range []prometheus.Collector{&salvoCollector{m}, met.ups, met.downs, met.dials, met.refused, met.joins, met.early, met.strays, met.moves, up} {
		errs = append(errs, reg.Register(c))
	}
	for _, l := range Layers()[1:] {
		errs = append(errs, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "farhop", Subsystem: "link", Name: "layers", Help: "Sessions that are up, by what carries the bundles we send.",
			ConstLabels: prometheus.Labels{"layer": string(l)},
		}, func() float64 { return float64(m.reg.over(l)) })))
	}
	return met, errors.Join(errs...)
}
