// Package link keeps the sessions between nodes over QUIC (RFC 9000): it
// dials, accepts, authenticates, moves hop frames and reports. It never
// decides where a bundle goes, never looks into one, and never touches the
// store; the node's loop does, through the Sink it passes in Config.
//
// A session carries
//
//   - one bidirectional control stream, opened by the dialer, with a Hello
//     from both ends first, then Advert, Ack, Refuse, Ping, Pong and Bye;
//   - one unidirectional stream per class for Transfer and Gap and one for
//     Volatile, opened on first use, so that bulk never stands before an
//     acknowledgement. Urgencies (RFC 9218) follow the class order;
//   - bidirectional streams for TCP services, whose first frame is StreamOpen.
//
// Between two nodes there is one session at a time, or one for each link with a
// name (docs/adr/0022). Both ends may dial; the
// node with the lower name is the judge of which connection stays, and a
// connection counts only once the judge's Hello has been sent on it. See
// registry.go for the rules and why both ends always agree.
//
// Every timer follows from the link: see timers.go. A link with a schedule is
// dialled inside its contacts only.
//
//	m, err := link.New(cfg)      // binds nothing
//	err = m.Run(ctx)             // binds cfg.Listen, serves until ctx ends
package link
