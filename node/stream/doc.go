// Package stream carries TCP services through the mesh while a path stands
// (live mode). It owns the local listeners, the byte streams between nodes
// and the connections to local endpoints. It knows neither QUIC nor routing:
// the node gives it a Mesh that picks endpoints and opens streams to the next
// hop, and hands it the streams that neighbours open.
//
//	client - TCP - ingress = Conn = relay = Conn = egress - TCP - endpoint
//
// The ingress sends StreamOpen and the client's first bytes at once, without
// waiting a round trip, and keeps those bytes (256 KiB at most) until the
// egress has confirmed with StreamReply that the endpoint took the connection.
// Until then a refusal or a lost path costs nothing: another endpoint gets the
// same bytes. When the path is lost while the answer is on its way, an endpoint
// that already got them may get them from two connections, as from any client
// that connects again. Afterwards bytes flow both ways with half-close and reset, and
// a lost path is a reset for the client.
package stream
