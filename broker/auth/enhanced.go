package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrMethod says that an authentication method is not known here, or not for
// this client: 0x8C.
var ErrMethod = errors.New("unknown authentication method")

// Exchange is what a client said in one round of an enhanced authentication
// (MQTT 5, 4.12).
type Exchange struct {
	ID     string // tells exchanges apart
	Round  int    // from 1: the CONNECT, or the AUTH that asks for another authentication
	Again  bool   // the client is in, and proves once more who it is
	Method string
	Data   []byte // nil for none
	State  string // of the last Step, "" in the first round
}

// Step is the answer to an Exchange.
type Step struct {
	Identity *Identity // who the client is, nil while the exchange goes on
	Data     []byte    // for the client, nil for none
	State    string    // for the next Exchange
}

// Enhanced sees authentications of several rounds through.
type Enhanced interface {
	// Knows reports whether a method is one of those that are asked for. It
	// does not block.
	Knows(method string) bool
	// Exchange answers one round. It may take long and is called by many
	// goroutines at once; ctx ends when the client goes. The error is one of
	// those of Authenticate, or ErrMethod.
	Exchange(ctx context.Context, c Client, e Exchange) (Step, error)
}

// The limits of one exchange.
const (
	MaxRounds = 16       // questions
	MaxProof  = 64 << 10 // bytes of the client's data in all of them
)

const (
	maxMethods = 16
	maxMethod  = 256      // bytes of a name
	maxState   = 16 << 10 // bytes
)

// exchanges is the Enhanced of an HTTP server.
type exchanges struct {
	*callback
	attempts *prometheus.CounterVec // method, result
}

// Knows implements Enhanced.
func (x *exchanges) Knows(method string) bool { return slices.Contains(x.cfg.Methods, method) }

// Exchange implements Enhanced. Its answers are not remembered.
func (x *exchanges) Exchange(ctx context.Context, c Client, e Exchange) (Step, error) {
	step, err := x.step(ctx, c, e)
	if err != nil || step.Identity != nil {
		x.attempts.WithLabelValues("enhanced", result(err)).Inc()
	}
	return step, err
}

func (x *exchanges) step(ctx context.Context, c Client, e Exchange) (Step, error) {
	a, err := x.askRound(ctx, c, e)
	if err != nil {
		x.failed(ctx, err)
		return Step{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch a.result {
	case "continue":
		return Step{Data: a.data, State: a.state}, nil
	case "allow":
		id := identity(c, cmp.Or(a.user, c.User))
		id.Attributes, id.Rules = a.attributes, a.rules
		return Step{Identity: id, Data: a.data}, nil
	case "deny":
		return Step{}, fmt.Errorf("%w: by %s", ErrNotAuthorized, x.cfg.URL)
	}
	return Step{}, fmt.Errorf("%w: %.100q, says %s", ErrMethod, e.Method, x.cfg.URL)
}

// askRound asks when it is its turn.
func (x *exchanges) askRound(ctx context.Context, c Client, e Exchange) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(x.cfg.Timeout), fmt.Errorf("no answer within %s", x.cfg.Timeout))
	defer cancel()
	leave, err := x.enter(ctx)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	q := ask(c)
	q.Exchange, q.Round, q.Again, q.Method, q.Data, q.State = e.ID, e.Round, e.Again, e.Method, e.Data, e.State
	a, err := x.post(ctx, q)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return answer{}, err
	}
	x.count.WithLabelValues("answered").Inc()
	return a, nil
}

// check says what is wrong with an answer to a round, or to a plain question.
func (a answer) check(enhanced bool) error {
	results := []string{"allow", "deny", "ignore"}
	want := "allow, deny or ignore"
	if enhanced {
		results, want = append(results, "continue"), "continue, allow, deny or ignore"
	}
	switch {
	case !slices.Contains(results, a.result):
		return fmt.Errorf("result %.40q, want %s", a.result, want)
	case len(a.user) > maxAttribute:
		return fmt.Errorf("user of %d bytes, more than %d", len(a.user), maxAttribute)
	case !enhanced && (len(a.data) > 0 || a.state != ""):
		return errors.New("data or state for a client that uses no authentication method")
	case len(a.data) > math.MaxUint16:
		return fmt.Errorf("data of %d bytes, more than %d", len(a.data), math.MaxUint16)
	case len(a.state) > maxState:
		return fmt.Errorf("state of %d bytes, more than %d", len(a.state), maxState)
	}
	return nil
}

// checkMethods looks at the names of HTTP.Methods.
func (h HTTP) checkMethods(add func(field, format string, args ...any)) {
	if len(h.Methods) > maxMethods {
		add("methods", "%d names, more than %d", len(h.Methods), maxMethods)
	}
	for i, m := range h.Methods {
		if m == "" || len(m) > maxMethod || slices.Contains(h.Methods[:i], m) {
			add(fmt.Sprintf("methods[%d]", i), "%.40q is empty, too long or there twice; write the name as clients say it, such as SCRAM-SHA-256", m)
		}
	}
}
