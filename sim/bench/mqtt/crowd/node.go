package crowd

import (
	"context"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/storeforward/bundle"
)

// alone is the node of a broker that keeps nothing and knows nobody. Its
// clients have clean sessions.
type alone struct{}

// OpenSession implements broker.Node.
func (alone) OpenSession(context.Context, broker.SessionOpen) (broker.SessionState, error) {
	return broker.SessionState{}, nil
}

// CloseSession implements broker.Node.
func (alone) CloseSession(string, uint64, uint32) {}

// ForgetWill implements broker.Node.
func (alone) ForgetWill(string, uint64) {}

// Subscribe implements broker.Node.
func (alone) Subscribe(context.Context, string, []broker.Subscription) error { return nil }

// Unsubscribe implements broker.Node.
func (alone) Unsubscribe(context.Context, string, []string) error { return nil }

// Publish implements broker.Node.
func (alone) Publish(_ *broker.Message, done func(broker.Verdict)) {
	done(broker.Verdict{Reason: bundle.OK})
}

// BeginWalk implements broker.Node.
func (alone) BeginWalk(context.Context, broker.Walk) (uint64, error) { return 0, nil }

// SubmitTo implements broker.Node.
func (alone) SubmitTo(broker.Walk, []*broker.Message) {}

// Settle implements broker.Node.
func (alone) Settle(s broker.Settlement) {
	if s.Done != nil {
		s.Done()
	}
}

// Wanted implements broker.Node.
func (alone) Wanted(string) bool { return false }

// Kept implements broker.Node.
func (alone) Kept(bundle.Reason) {}

// Regroup implements broker.Node: nobody else is there.
func (alone) Regroup(*broker.Message, []string) {}
