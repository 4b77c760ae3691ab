package auth

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the package's counters. Labels are bounded: a method, a result,
// the use of a file. They never carry a client or a topic.
type metrics struct {
	attempts *prometheus.CounterVec // method, result
	reloads  *prometheus.CounterVec // use, result
	callback *prometheus.CounterVec // result
	access   *prometheus.CounterVec // result

	publishRefused, subscribeRefused, shadowed prometheus.Counter // resolved once: they count by message
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "farhop", Subsystem: "mqtt_auth", Name: name, Help: help}, labels)
	}
	m := &metrics{
		attempts: vec("attempts_total", "Clients that asked to come in, by method and result.", "method", "result"),
		reloads:  vec("file_reloads_total", "Changed files that were read again, by use and result.", "use", "result"),
		callback: vec("callback_total", "Questions to the HTTP server: answered, cached, or why there was no answer.", "result"),
		access:   vec("access_total", "Decisions of the access rules that were not simply yes.", "result"),
	}
	m.publishRefused = m.access.WithLabelValues("publish-refused")
	m.subscribeRefused = m.access.WithLabelValues("subscribe-refused")
	m.shadowed = m.access.WithLabelValues("shadow")
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.attempts, m.reloads, m.callback, m.access} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// counted is a way in whose results are counted under the name of its method.
type counted struct {
	method string
	Authenticator
	attempts *prometheus.CounterVec
}

func (a counted) Authenticate(ctx context.Context, c Client) (*Identity, error) {
	id, err := a.Authenticator.Authenticate(ctx, c)
	a.attempts.WithLabelValues(a.method, result(err)).Inc()
	return id, err
}

func result(err error) string {
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrMethod):
		return "unknown"
	case errors.Is(err, ErrRefused):
		return "refused"
	case errors.Is(err, ErrNotAuthorized):
		return "not-authorized"
	}
	return "unavailable"
}
