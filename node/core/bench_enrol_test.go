package core_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/farhop/farhop/node/core"
)

// BenchmarkEnrol is the life of very many sessions that outlive their
// connections, each with a filter of its own: they come for the first time,
// leave, come again and end, one after the other, each in writes of its own.
// A session must cost the same however many there are: first and last are the
// ns that one takes of the first and of the last tenth.
func BenchmarkEnrol(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var all [4]tenths
			rounds := 0
			for b.Loop() {
				all = enrol(b, n)
				rounds++
			}
			for i, name := range []string{"enrol", "leave", "return", "end"} {
				b.ReportMetric(all[i].first, name+"-first-ns")
				b.ReportMetric(all[i].last, name+"-last-ns")
			}
		})
	}
}

// tenths are the ns that one of the first and of the last tenth took.
type tenths struct{ first, last float64 }

func enrol(b *testing.B, n int) (all [4]tenths) {
	now := time.Unix(1_900_000_000, 0)
	node := newBenchNode(b, "a", now)
	name := func(i int) string { return fmt.Sprintf("dev%06d", i) }
	open := func(i, conn int) core.SessionState {
		return node.core.OpenSession(now, core.SessionOpen{Client: name(i), Conn: uint64(conn), Expiry: 3600, ReceiveMax: 16})
	}
	steps := [4]func(i int){
		func(i int) {
			open(i, 1)
			node.turn(now)
			node.core.Subscribe(now, 0, name(i), []core.Subscription{{Filter: "plant/" + name(i) + "/cmd", QoS: 1}})
		},
		func(i int) { node.core.CloseSession(now, name(i), 1, 3600) },
		func(i int) {
			if s := open(i, 2); !s.Present || len(s.Subscriptions) != 1 {
				b.Fatalf("%s finds %+v", name(i), s)
			}
			node.core.CloseSession(now, name(i), 2, 3600)
		},
		func(i int) { node.core.EndSession(now, 0, name(i)) },
	}
	for k, step := range steps {
		at := [4]time.Time{}
		for i := range n {
			switch i {
			case 0:
				at[0] = time.Now()
			case n / 10:
				at[1] = time.Now()
			case n - n/10:
				at[2] = time.Now()
			}
			now = now.Add(100 * time.Microsecond)
			step(i)
			node.turn(now)
			node.core.Wake() // as a loop asks after each event
		}
		at[3] = time.Now()
		share := float64(n / 10)
		all[k] = tenths{float64(at[1].Sub(at[0])) / share, float64(at[3].Sub(at[2])) / share}
	}
	return all
}
