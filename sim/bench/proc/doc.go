// Package proc runs the programs that a measurement has as its subjects and
// peers, and reads what a system tells of processes and disks: processor time,
// memory, bytes written, and the plain calls that the floors of a measurement
// are made of. It measures nothing by itself; package bench and its neighbours
// call it. On other systems than Linux the figures are 0.
package proc

// Memory is what a process holds, in bytes.
type Memory struct {
	Resident  int64 // all pages, mapped files among them
	Anonymous int64 // of these, what no file backs: what the program itself needs
	Peak      int64 // highest Resident
}
