// Package dtn is the door for other delay-tolerant networking stacks: it
// exchanges bundles with them over TCPCLv4 (RFC 9174) and, where told to, over
// STCP and MTCP, which are TCP with a length before each bundle.
//
// It moves whole bundles as bytes. It never stores one, never looks for a
// path, and never decides whether a bundle is welcome: a Sink does, and the
// acknowledgement of a TCPCLv4 transfer leaves only after the Sink reported it
// durable. What a bundle means to the mesh, and what of the mesh becomes a
// bundle, is computed by the Gateway, which does no I/O. Package node owns
// both and connects them.
//
//	d, err := dtn.New(cfg)                 // checks cfg, binds nothing
//	err = d.Run(ctx)                       // listens and dials until ctx ends
//	err = d.Send(ctx, "hdtn", [][]byte{b}) // nil: the peer acknowledged all of it
//
// What a convergence layer promises:
//
//	tcpcl   Send returns after the peer's acknowledgement of the last segment.
//	        A session that is lost fails every transfer it had not acknowledged.
//	stcp    no acknowledgement exists: Send returns after the write, and what
//	mtcp    the kernels of both ends hold is lost when the connection is. Use
//	        them where nothing else is spoken. Inbound, a Sink without room
//	        stops the reading, and TCP holds the peer.
//
// Neither end of STCP, MTCP or TCPCLv4 without TLS shows who it is, so Config
// refuses them away from loopback unless Insecure is set.
package dtn
