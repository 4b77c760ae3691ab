package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/farhop/farhop/sim/bench/durable"
)

// Names of the peers.
const (
	pebbleEach  = "pebble"
	pebbleGroup = "pebble-group"
	sqliteGroup = "sqlite"
	sqliteEach  = "sqlite-each"
	natsAlways  = "nats-always"
	natsStreams = "nats-streams"
	natsDefault = "nats-default"
)

// engines are all that take part, in the order of the tables. The last one
// acknowledges what is not durable.
func engines() []string {
	own := slices.DeleteFunc(durable.Engines(), func(e string) bool { return e == durable.Memory })
	return slices.Concat([]string{durable.Floor}, own,
		[]string{pebbleEach, pebbleGroup, sqliteGroup, sqliteEach, natsAlways, natsStreams, natsDefault})
}

// cycles reports whether an engine can remove what was delivered. JetStream
// removes what a consumer acknowledges, which is another load than this.
func cycles(engine string) bool { return !strings.HasPrefix(engine, "nats-") }

// open opens an engine in a folder that it makes.
func open(name, dir string, l *durable.Load, producers int) (durable.Sink, error) {
	if !slices.Contains(engines(), name) {
		return nil, fmt.Errorf("engine: %q, want %s", name, strings.Join(engines(), ", "))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	switch name {
	case pebbleEach:
		return openPebble(dir)
	case pebbleGroup:
		return openPebbleGroup(dir, producers)
	case sqliteGroup:
		return openSQLiteGroup(dir, producers)
	case sqliteEach:
		return openSQLite(dir)
	case natsAlways:
		return openNATS(dir, producers, true, 1)
	case natsStreams:
		return openNATS(dir, producers, true, durable.Queues)
	case natsDefault:
		return openNATS(dir, producers, false, 1)
	}
	return durable.Open(name, dir, l, producers)
}
