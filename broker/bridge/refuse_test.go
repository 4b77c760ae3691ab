package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

// TestRefusedForNow has a remote refuse some topics for now, with each code
// that means it, one of them for ever, and forbid another. The rest goes over
// on the same connection, and what was refused when it is wanted.
func TestRefusedForNow(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			here, there := newMosquitto(t), newPeer(t)
			there.code = func(topic string, nth int) byte {
				if topic == "t/forbidden" {
					return 0x87
				}
				code := map[string]byte{"t/quota": 0x97, "t/busy": 0x80, "t/taken": 0x91}[topic]
				if nth > 3 {
					return 0
				}
				return code
			}
			cfg, deps := quick(here.address(), there.listen(), Rule{Direction: Out, Filter: "t/#"}, Rule{Direction: In, Filter: "down"})
			b := run(t, cfg, deps)
			l := newDevice(t, here.address(), "l", "", false)
			topics := []string{"t/quota", "t/free", "t/forbidden", "t/busy", "t/free", "t/taken", "t/free"}
			var want []string
			for i, topic := range topics {
				l.publish(&paho.Publish{Topic: topic, QoS: qos, Payload: fmt.Append(nil, i)})
				if topic != "t/forbidden" {
					want = append(want, fmt.Sprint(topic, " ", i))
				}
			}
			until(t, "all to be acknowledged", func() bool { return len(there.got()) >= len(want) && b.Status().Out.UnderWay == 0 })
			got := there.got()
			if first := []string{"t/free 1", "t/free 4", "t/free 6"}; !slices.Equal(got[:3], first) {
				t.Errorf("first came %q, want what nobody refused: %q", got, first)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("taken: %q, want %q", got, want)
			}
			if s := b.Status(); s.Links != 1 || s.Out.Retried != 9 || s.Out.Dropped[causeRefused] != 1 || len(s.Warnings) == 0 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestRefusedSubscription has a remote refuse one filter of two, and grant it
// later. The other flows carry on.
func TestRefusedSubscription(t *testing.T) {
	here, there := newMosquitto(t), newPeer(t)
	there.grant = func(filter string, nth int) byte {
		if filter == "secret" && nth < 3 {
			return 0x87
		}
		return 2
	}
	there.send("open", 2, "1")
	cfg, deps := quick(here.address(), there.listen(), Rule{Direction: In, Filter: "open"}, Rule{Direction: In, Filter: "secret"}, Rule{Direction: Out, Filter: "up"})
	b := run(t, cfg, deps)
	if w := b.Status().Warnings; len(w) != 1 || !strings.Contains(w[0], "secret") {
		t.Errorf("warnings %q", w)
	}
	l := newDevice(t, here.address(), "l", "", false)
	l.publish(&paho.Publish{Topic: "up", QoS: 1, Payload: []byte("1")})
	until(t, "both ways to carry", func() bool { return there.settled() && len(there.got()) == 1 })
	until(t, "the subscription to be granted", func() bool { return len(b.Status().Warnings) == 0 })
	if s := b.Status(); s.Links != 1 || s.State != Connected {
		t.Errorf("status %+v", s)
	}
}
