package emulator

import (
	"fmt"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// What a link is like is described in package desc.
type (
	// Profile is what one direction of a link does.
	Profile = desc.Profile
	// Schedule says when a link can carry.
	Schedule = desc.Schedule
	// Direction names a way through the link: desc.Up or desc.Down.
	Direction = desc.Direction
)

const (
	up   = desc.Up
	down = desc.Down

	traceBytes = desc.TraceBytes
)

// State is what has been done to one direction of a link, beside its profile.
type State uint8

// States of a direction.
const (
	StateOpen State = iota
	// StateCut lets nothing in any more: datagrams offered are dropped, and so
	// are those that wait at the bottleneck; TCP waits. What is under way arrives.
	StateCut
	// StateBlackhole lets nothing out either: from this moment the far side hears
	// nothing, and nobody is told. Datagrams under way are dropped, bytes and ends
	// of TCP connections wait.
	StateBlackhole
)

// String is the name in statistics and in the API.
func (s State) String() string {
	switch s {
	case StateOpen:
		return "open"
	case StateCut:
		return "cut"
	case StateBlackhole:
		return "blackhole"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(b []byte) error {
	for _, one := range []State{StateOpen, StateCut, StateBlackhole} {
		if one.String() == string(b) {
			*s = one
			return nil
		}
	}
	return fmt.Errorf("%.80q is not open, cut or blackhole", b)
}
