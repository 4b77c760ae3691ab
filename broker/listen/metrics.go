package listen

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Causes for which a client is refused before its first MQTT byte.
const (
	causeGone       = "gone"               // the client left
	causeTimeout    = "timeout"            // it took longer than Config.HandshakeTimeout
	causeCrowded    = "crowded"            // it was slow while others waited
	causeTLS        = "tls"                // no TLS, none in common, or a certificate is missing
	causeClientCert = "client-certificate" // one that is not trusted, or out of date
	causeProxy      = "proxy-header"       // a proxy's header is missing or wrong
	causeProxyV1    = "proxy-v1"           // a header of version 1, which is text
	causeHTTP       = "http"               // no upgrade to WebSocket
	causePath       = "path"
	causeOrigin     = "origin"
	causeProtocol   = "subprotocol"
	causeStream     = "stream" // no QUIC stream was opened
)

// refusal is why a client was not let in.
type refusal struct {
	cause string
	err   error
}

func (r *refusal) Error() string { return r.cause + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(cause string, err error) error { return &refusal{cause, err} }

func refusef(cause, format string, args ...any) error {
	return &refusal{cause, fmt.Errorf(format, args...)}
}

// meters count for one listener. Labels are the kind of listener and the
// causes above; they never carry an address.
type meters struct {
	accepted  prometheus.Counter
	underway  prometheus.Gauge
	full      prometheus.Counter
	streams   prometheus.Counter
	transport string
	refused   *prometheus.CounterVec
}

func newMeters(reg prometheus.Registerer, transport string) (*meters, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "farhop", Subsystem: "mqtt_listener", Name: name, Help: help,
		}, append([]string{"transport"}, labels...))
	}
	accepted := counter("accepted_total", "Connections whose handshake was completed.")
	full := counter("full_total", "Times a client had to wait because as many handshakes as allowed were under way.")
	streams := counter("streams_refused_total", "QUIC streams reset because they were not a client's first.")
	refused := counter("refused_total", "Clients refused before their first MQTT byte.", "cause")
	underway := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "farhop", Subsystem: "mqtt_listener", Name: "handshakes", Help: "Handshakes under way.",
	}, []string{"transport"})
	var errs []error
	if reg != nil {
		errs = append(errs, share(reg, &accepted), share(reg, &full), share(reg, &streams), share(reg, &refused), share(reg, &underway))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("listener metrics: %w", err)
	}
	return &meters{
		accepted: accepted.WithLabelValues(transport), underway: underway.WithLabelValues(transport),
		full: full.WithLabelValues(transport), streams: streams.WithLabelValues(transport),
		transport: transport, refused: refused,
	}, nil
}

// share registers *c, or takes the one that another listener registered.
func share[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := already.ExistingCollector.(C); ok {
			*c = old
			return nil
		}
	}
	return err
}

// refuse counts a refusal by its cause.
func (m *meters) refuse(err error) {
	cause := causeGone
	if r, ok := errors.AsType[*refusal](err); ok {
		cause = r.cause
	}
	m.refused.WithLabelValues(m.transport, cause).Inc()
}
