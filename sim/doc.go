// Package sim runs virtual worlds: the pure core of every node over a store in
// memory, links with delay, loss and contacts, devices that publish and
// subscribe, and crashes, all in virtual time on one thread. One seed is one
// run, bit for bit.
//
//	w, err := scenario.Parse("moon.yaml", data)
//	report, err := sim.Run(w, 7)
//
// It judges what it runs: every acknowledged message must reach every device
// that subscribed, once and in order. It never touches a socket, a file or the
// wall clock; the emulator of real links is package sim/emulator.
package sim
