// Package packet cuts MQTT control packets from a byte stream, checks them and
// decodes them, for MQTT 3.1, 3.1.1 and 5 as a server receives them.
//
// It owns what is well formed: lengths, flags, strings, properties and their
// values, by the letter of the standards. What a well-formed packet means is
// package broker's. Cut takes one packet off the front of a buffer without
// allocating what its length only promises; ParsePublish and ParseAck are the
// hot path and give views into that buffer; Connect, Subscribe and the other
// rare packets are checked here first and then decoded by the codec of
// github.com/mochi-mqtt/server/v2/packets, which trusts what it reads.
//
// Errors are *Fault with the reason code that an MQTT 5 client reads. Nothing
// here does I/O or keeps state, so everything is safe for concurrent use.
package packet
