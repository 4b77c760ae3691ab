// Package mux carries many streams over one TCP connection with TLS 1.3, for
// links where UDP does not pass. It owns the connection and what waits in it,
// and knows neither frames nor who the peer may be: package node/link gives it
// the TLS configuration, judges the peer, and runs its sessions on the streams
// as it does on those of QUIC.
//
//   - Streams go both ways or one way. Their bytes travel in chunks of one TLS
//     record, and the next chunk is always of the most urgent stream that has
//     any, so that what is urgent waits for what the kernel holds and one batch.
//   - Each stream has a window of its own, which grows while its reader keeps up
//     and there is room. A stalled reader costs its window and holds nobody else.
//   - The round trip is measured from end to end, whatever stands in between.
//
// docs/wire.md has the format.
//
//	c, err := mux.Client(ctx, tcp, tlsConfig, mux.Config{Idle: 10 * time.Minute})
//	st, err := c.OpenStream(ctx)
//	c.CloseWithError(0, "done")
//	c.Wait()
package mux
