// Package mqtt measures a node as a broker, beside another broker, in one run:
// messages a second and processor time for each where nothing has to be on a
// disk, what connections cost that do nothing, and messages over a link as far
// as the moon.
//
// It owns the brokers, which are child processes on loopback, started from
// outside like any other program, the link emulator between them, and the
// figures. The load is package load's; sessions without sockets, within one
// process, are package crowd's. It never reaches into a node. The command
// "farhop bench mqtt" calls it. What is on a disk before it is acknowledged is
// measured by package sim/bench.
//
// Brokers take turns: in every round each is started afresh, loaded and ended,
// and the next one meets the same machine a moment later. Medians of the rounds
// are reported, and medians of the ratios within the rounds.
//
//	report, err := mqtt.Run(ctx, mqtt.Config{Dir: dir, Farhop: "/usr/bin/farhop"}, note)
package mqtt
