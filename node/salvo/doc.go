// Package salvo moves blocks of bytes over links that are long, lossy or
// scheduled, at the rate the link is known to have: the layer that docs/salvo.md
// describes byte by byte. It is in the manner of LTP (RFC 5326): no window that
// must open first, no acknowledgement that the next packet waits for.
//
// A Sender has the blocks of one direction of a link, a Receiver gets them. Both
// are engines without sockets, goroutines and clocks: what happens goes in with
// the time it happened at, packets and effects come out, Wake says when to
// call again. So a real socket and a virtual world drive the same code, and two
// runs with equal arguments are equal.
//
//	send.Offer(now, salvo.Block{ID: 7, Class: 3, Length: n, Data: file})
//	for now before or at send.Wake():
//		packet := send.Next(now, buf)    // to the socket; nil: not now
//	on a packet of kind Report: send.Receive(now, packet)
//	for effects in send.Take(): Released blocks are the receiver's now
//
//	on a packet of kind Data: recv.Receive(now, packet)
//	for effects in recv.Take(): Keep bytes, then Deliver the block
//	when the block is durable: recv.Accepted(now, id)
//	for now before or at recv.Wake(): packet := recv.Next(now, buf)
//
// How it works. What waits of a class is cut into trains: at most 200 symbols
// of one packet each, with parity for the loss the link is declared to have.
// Trains of a group take turns, so that a burst of loss costs each little. The
// receiver repairs what it can, and reports what it cannot; the sender answers
// with as many fresh parity symbols as are missing. Trains belong to an
// association, that is to one contact; blocks, of which each side remembers the
// bytes that have arrived, outlive it: State on either side is what a transfer
// goes on with at the next contact, and if one of the two forgot, it begins
// with what the other remembers, or anew.
//
// There is no congestion control. A link must have a rate in its configuration,
// and when three times the declared loss is measured for two round trips the
// rate is halved (breaker.go).
//
// A tour: config.go and state.go are what the owner gives, sender.go and
// receiver.go what it calls; queue.go makes trains of blocks, train.go symbols
// of trains, repair.go reads reports; arrive.go puts symbols together, blocks.go
// blocks, report.go writes reports. Packets and keys are in package packet, the
// code in package fec.
package salvo
