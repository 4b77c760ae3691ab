// Command mutants plants bugs and wants each to be found.
//
// A test that never failed proves nothing. Every entry of the table breaks one
// promise in one line of the product: an acknowledgement that leaves before
// its write, a repeat that is not dropped, a checksum nobody looks at. The
// tool builds the narrowest tests that should notice with the change laid over
// the tree (go build -overlay: no file is touched), runs them, and expects them
// to fail. A mutant that survives asks for a better test; one that no longer
// applies, because its line changed, asks for a look at the table. Where a
// test judges by several laws, an entry says which law has to speak, so that
// each law is known to be able to fail, and to fail alone.
//
// It owns the table (table_*.go) and nothing else, and never looks at what a
// test does. It is run by make mutants:
//
//	go run ./sim/mutants            # all of them, two at a time
//	go run ./sim/mutants -short     # those that pay most for their time
//	go run ./sim/mutants -run order # those with "order" in their name
//
// Exit codes: 0 all were killed; 1 one survived, does not apply or does not
// build; 2 the tool could not run.
package main
