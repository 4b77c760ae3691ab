package broker

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the package's counters. Labels are bounded: QoS, a drop cause, a
// disconnect cause. They never carry a topic or a client.
type metrics struct {
	clients       prometheus.Gauge
	subscriptions prometheus.Gauge
	retained      prometheus.Gauge
	retainedBytes prometheus.Gauge
	publishes     *prometheus.CounterVec // qos
	deliveries    *prometheus.CounterVec // qos
	refused       *prometheus.CounterVec // reason (bundle.Reason)
	dropped       *prometheus.CounterVec // cause
	connects      *prometheus.CounterVec // result
	disconnects   *prometheus.CounterVec // cause
	limits        *prometheus.CounterVec // limit

	byQoSIn, byQoSOut [3]prometheus.Counter // resolved once: a label lookup per message is not free
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "farhop", Subsystem: "mqtt", Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "farhop", Subsystem: "mqtt", Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		clients:       gauge("clients", "MQTT clients connected now."),
		subscriptions: gauge("live_subscriptions", "Filters of sessions that end with their connection."),
		retained:      gauge("retained_messages", "Retained messages held in memory."),
		retainedBytes: gauge("retained_bytes", "Bytes of the retained messages held in memory."),
		publishes:     vec("publishes_total", "PUBLISH packets received from clients.", "qos"),
		deliveries:    vec("deliveries_total", "PUBLISH packets written to clients.", "qos"),
		refused:       vec("publishes_refused_total", "PUBLISH packets that were not accepted.", "reason"),
		dropped:       vec("deliveries_dropped_total", "Deliveries dropped before they were written.", "cause"),
		connects:      vec("connects_total", "CONNECT packets by result.", "result"),
		disconnects:   vec("disconnects_total", "Connections ended, by cause.", "cause"),
		limits:        vec("limits_total", "Limits that clients reached.", "limit"),
	}
	for q, name := range []string{"0", "1", "2"} {
		m.byQoSIn[q] = m.publishes.WithLabelValues(name)
		m.byQoSOut[q] = m.deliveries.WithLabelValues(name)
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.clients, m.subscriptions, m.retained, m.retainedBytes, m.publishes,
		m.deliveries, m.refused, m.dropped, m.connects, m.disconnects, m.limits,
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// limit counts that a client reached one.
func (m *metrics) limit(name string) { m.limits.WithLabelValues(name).Inc() }
