package stream

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// The results of a connection, as metric labels.
const (
	resultDone        = "done"        // both ends closed in order
	resultReset       = "reset"       // cut by an end or by a lost path
	resultUnreachable = "unreachable" // no endpoint, and the service does not wait
	resultLimit       = "limit"       // over the limit of its service
	resultWaiting     = "waiting"     // too many wait for a path already
	resultRefused     = "refused"     // the endpoint did not take it
)

// metrics of TCP services; side is ingress, relay or egress.
type metrics struct {
	conns     *prometheus.CounterVec
	active    *prometheus.GaugeVec
	waiting   prometheus.Gauge
	failovers prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "farhop", Subsystem: "stream", Name: name, Help: help}
	}
	m := &metrics{
		conns:     prometheus.NewCounterVec(prometheus.CounterOpts(opts("connections_total", "TCP service connections that ended, by side and result.")), []string{"side", "result"}),
		active:    prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("connections", "TCP service connections, by side.")), []string{"side"}),
		waiting:   prometheus.NewGauge(prometheus.GaugeOpts(opts("waiting", "TCP service connections that wait for a path."))),
		failovers: prometheus.NewCounter(prometheus.CounterOpts(opts("failovers_total", "Attempts repeated at another endpoint."))),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.conns, m.active, m.waiting, m.failovers} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
