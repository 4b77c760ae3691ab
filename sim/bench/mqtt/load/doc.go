// Package load drives MQTT brokers over real sockets with as little processor
// time as it can, so that the broker is measured and not its clients: one
// goroutine, one epoll loop, large buffers, packets that are made once and
// changed in place.
//
// It owns connections of MQTT 3.1.1 clients, publishers and subscribers on them, and the counts of what was sent and what came. It never
// starts a broker and never looks at one; packages sim/bench/mqtt and
// sim/bench/mqtt/crowd do, and call it.
//
// The load is closed: a publisher has a bounded number of messages under way
// and goes on when its subscribers have got them, so that no broker has a reason
// to drop one. Every payload carries its publisher and number, and a subscriber
// knows what has to come next: a message that is missing, repeated or out of
// order is counted where it happens.
package load
