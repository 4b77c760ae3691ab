package crowd

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestRun connects real sessions to a real broker, and all of them are found
// in the end.
func TestRun(t *testing.T) {
	r, err := Run(t.Context(), Config{Sessions: 500, Settle: 10 * time.Millisecond, Time: 10 * time.Millisecond}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sessions != 500 || r.Connecting <= 0 || r.Heap <= 0 {
		t.Errorf("got %+v", r)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Config
		want string
	}{
		{"too many", Config{Sessions: most + 1}, "sessions: 5000001, want 1 to 5000000"},
		{"fewer than none", Config{Sessions: -1}, "sessions: -1"},
		{"no time", Config{Time: -1}, "settle, time: 0s and -1ns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Run(t.Context(), c.c, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// refusing answers every client as it is told and goes.
type refusing string

func (r refusing) Connect() (net.Conn, error) {
	if r == "" {
		return nil, errors.New("no room")
	}
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Read(make([]byte, 256))
		_, _ = io.WriteString(theirs, string(r))
		_ = theirs.Close()
	}()
	return ours, nil
}

// TestRefused: a session that is not taken ends the run with its number.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"no connection", "", ": no room"},
		{"not authorized", "\x20\x02\x00\x05\x90\x03\x00\x01\x00", ": the broker answers 20 02 00 05"},
		{"ended", "\x20\x02", ": unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Measure(t.Context(), Config{Sessions: 3}, refusing(c.answer), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
