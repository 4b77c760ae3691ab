// Package sim runs virtual worlds: the pure core of every node over a store in
// memory, links with delay, loss and contacts, devices that publish and
// subscribe, and faults, all in virtual time on one thread. One seed is one
// run, bit for bit.
//
//	w, err := scenario.Parse("moon.yaml", data)
//	report, err := sim.Run(w, 7, sim.Option{})
//
// Package oracle watches every event and says which law was broken first, at
// which message. Worlds of nothing but faults come from scenario.Chaos, or
// from a world with chaos: true; Shrink makes one that fails small:
//
//	go test ./sim -run Laws -args -node-hours 10000
//	go test ./sim -run Laws -args -seed 39
//
// It never touches a socket, a file or the wall clock; the emulator of real
// links is package sim/emulator.
package sim
