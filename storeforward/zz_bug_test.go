package storeforward

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRequeueAgainstModel is TestMachineAgainstModel with Requeue, which gives
// a message a new arrival number in the store as well.
func TestRequeueAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig()
		actions := r.actions()
		actions["requeue"] = r.requeue
		t.Repeat(actions)
		r.drain(t)
	})
}
