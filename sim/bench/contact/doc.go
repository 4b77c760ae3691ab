// Package contact measures how soon a contact is of use to two nodes that know
// each other: two processes with an emulated link between them that is there by
// schedule. What was published while it was not waits on the disk of one, whose
// first flight carries it; both processes are ended and started again before.
//
//	r, err := contact.Run(ctx, contact.Config{Farhop: program, Dir: dir, Delay: 1280 * time.Millisecond, Rate: 50e6, Rounds: 5}, note)
package contact
