// Package listen accepts MQTT connections of every kind: TCP, TLS, WebSocket
// with and without TLS, unix sockets and QUIC, each of the first five also
// behind a proxy that speaks the PROXY protocol, version 2.
//
// It owns everything before the first MQTT byte: binding, handshakes, the
// proxy's header, the upgrade to WebSocket, and who the client is as far as
// these tell. It never reads MQTT and does not know the broker. Whoever calls
// Listen gets a net.Listener and closes it.
//
//	l, err := listen.Listen(ctx, listen.Config{URL: "tls://0.0.0.0:8883", TLS: conf})
//	...
//	c, err := l.Accept() // the handshake is over
//	who := c.(listen.Peered).Peer()
//
// One slow client never delays another. Each handshake has a goroutine of its
// own (gate.go), all share one limit of number and one of time, and only
// connections that are through come out of Accept. When the limit of number is
// reached, the next client waits in the kernel's queue, and of the address with
// the most handshakes the oldest that has had a quarter of its time is cut
// instead: so one address that opens many and finishes none keeps others
// waiting for seconds, not for good, while a fleet that comes back at once is
// served in its order and cut nowhere.
//
// Close ends every goroutine of the listener but those of connections that
// were accepted out of it; these end with their connection.
package listen
