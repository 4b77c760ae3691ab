// Package desc says what a link is like: delay, loss, rate, contacts and what
// else goes wrong on it, in Go and in a strict YAML file that is the same for
// the emulator, for demos and for virtual worlds.
//
// It describes and computes; it opens no file or socket and reads no clock.
// Package sim/emulator makes loopback behave like that. The keys of the file are
// in docs/emulator.md.
package desc
