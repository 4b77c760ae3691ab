package node

import (
	"errors"
	"testing"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/storeforward/bundle"
)

// TestNotOpened: a CONNECT is told of a quota where one was reached, and only
// there: who lost its session to another node meanwhile hit no limit.
func TestNotOpened(t *testing.T) {
	t.Parallel()
	for reason, want := range map[bundle.Reason]struct{ refused, quota bool }{
		bundle.OK:            {},
		bundle.SessionEnded:  {refused: true},
		bundle.DiskFailed:    {refused: true},
		bundle.QuotaExceeded: {refused: true, quota: true},
		bundle.StoreFull:     {refused: true, quota: true},
		bundle.TooLarge:      {refused: true, quota: true},
	} {
		err := notOpened(reason)
		if (err != nil) != want.refused || errors.Is(err, broker.ErrQuota) != want.quota {
			t.Errorf("%s: %v, want refused %t, for a quota %t", reason, err, want.refused, want.quota)
		}
	}
	if !errors.Is(errSessions, broker.ErrQuota) {
		t.Errorf("%v is no quota", errSessions)
	}
}
