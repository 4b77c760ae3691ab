// Package crowd measures what a broker within this process spends on sessions
// that are connected and idle, in numbers that no system has sockets for: their
// connections are in memory.
//
// It owns the clients, a node for the broker that has no store and no mesh, and
// the figures. It needs of the broker that an idle connection in memory costs
// no goroutine at either end; a broker whose connections do is measured with
// them. The command "farhop bench mqtt --sessions" calls it.
//
//	report, err := crowd.Run(ctx, crowd.Config{Sessions: 1_000_000}, note)
package crowd
