package link

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/node/mux"
)

// Cause says why a session ended. It is a metric label.
type Cause string

// The causes. The first group travels as QUIC application error codes.
const (
	Closed     Cause = "closed"      // Session.Close, here or there
	Redundant  Cause = "redundant"   // another connection of the pair stays
	Replaced   Cause = "replaced"    // a newer connection of the same node came
	Refused    Cause = "refused"     // identity or Hello not acceptable
	Protocol   Cause = "protocol"    // a frame that is malformed or too large
	Overflow   Cause = "overflow"    // the peer takes bytes slower than we make them
	ContactEnd Cause = "contact-end" // the schedule says the link closes now
	Shutdown   Cause = "shutdown"    // the node stops
	Busy       Cause = "busy"        // too many connections at once

	Silent    Cause = "silent"    // nothing heard within the idle timeout
	Restarted Cause = "restarted" // the peer's process does not know the session
	Failed    Cause = "failed"    // anything else the transport reports
)

// wireCauses orders the causes by their code on the wire, from 0. Append only.
func wireCauses() []Cause {
	return []Cause{Closed, Redundant, Replaced, Refused, Protocol, Overflow, ContactEnd, Shutdown, Busy}
}

func (c Cause) code() uint64 {
	for i, w := range wireCauses() {
		if c == w {
			return uint64(i)
		}
	}
	return 0
}

// Down is why a session, or an attempt at one, ended.
type Down struct {
	Cause  Cause
	Remote bool  // the far end decided
	Err    error // the detail for logs, never nil
}

// Error implements error.
func (d Down) Error() string {
	if d.Remote {
		return fmt.Sprintf("%s by peer: %v", d.Cause, d.Err)
	}
	return fmt.Sprintf("%s: %v", d.Cause, d.Err)
}

// Unwrap gives the detail.
func (d Down) Unwrap() error { return d.Err }

func down(c Cause, format string, args ...any) Down {
	return Down{Cause: c, Err: fmt.Errorf(format, args...)}
}

// downOf translates what the transport reports.
func downOf(err error) Down {
	var (
		d     Down
		app   *quic.ApplicationError
		idle  *quic.IdleTimeoutError
		reset *quic.StatelessResetError
		ended *mux.CloseError
	)
	switch {
	case errors.As(err, &d):
		return d
	case errors.As(err, &app):
		return downCode(uint64(app.ErrorCode), app.ErrorMessage, app.Remote)
	case errors.As(err, &ended):
		return downCode(ended.Code, ended.Text, ended.Remote)
	case errors.Is(err, mux.ErrProtocol):
		return Down{Cause: Protocol, Err: err}
	case errors.Is(err, mux.ErrCut):
		return Down{Cause: Restarted, Remote: true, Err: fmt.Errorf("the peer's process ended, or something on the way: %w", err)}
	case errors.As(err, &idle), errors.Is(err, mux.ErrIdle):
		return Down{Cause: Silent, Err: err}
	case errors.As(err, &reset):
		return Down{Cause: Restarted, Remote: true, Err: errors.New("the peer's process does not know this session: it restarted")}
	case errors.Is(err, quic.ErrTransportClosed), errors.Is(err, quic.ErrServerClosed), errors.Is(err, context.Canceled):
		return Down{Cause: Shutdown, Err: err}
	case errors.Is(err, io.EOF):
		return Down{Cause: Closed, Remote: true, Err: errors.New("the peer ended its stream")}
	}
	return Down{Cause: Failed, Err: err}
}

// downCode is what a code and a text on the wire say.
func downCode(code uint64, text string, remote bool) Down {
	d := Down{Cause: Failed, Remote: remote, Err: errors.New("no reason given")}
	if text != "" {
		d.Err = fmt.Errorf("%.256q", text)
	}
	if all := wireCauses(); code < uint64(len(all)) {
		d.Cause = all[code]
	}
	return d
}

// hangUp closes a connection for a reason the far end is told.
func hangUp(conn carrier, d Down) {
	text := d.Err.Error()
	// A CONNECTION_CLOSE must fit one packet.
	_ = conn.CloseWithError(d.Cause.code(), text[:min(len(text), 256)])
}
