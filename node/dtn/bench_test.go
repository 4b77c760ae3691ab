package dtn

import (
	"fmt"
	"sync"
	"testing"

	"github.com/farhop/farhop/storeforward/bundle"
)

// BenchmarkExchange sends bundles between two doors of one process, each end
// with a sink that answers at once.
func BenchmarkExchange(b *testing.B) {
	for _, kind := range []Kind{TCPCL, STCP} {
		for _, size := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) {
				from, to := pair(b, kind, nil)
				to.sink.answer = func(int, Received) bundle.Reason {
					to.sink.got = to.sink.got[:0]
					return bundle.OK
				}
				raw := [][]byte{makeBundle(b, "dtn://a/x", "dtn://b/y", 1, make([]byte, size))}
				b.SetBytes(int64(len(raw[0])))
				b.ReportAllocs()
				work := make(chan struct{})
				var wg sync.WaitGroup
				for range 64 {
					wg.Go(func() {
						for range work {
							if err := from.Send(b.Context(), "b", raw); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for b.Loop() {
					work <- struct{}{}
				}
				close(work)
				wg.Wait()
			})
		}
	}
}
