// Command farhop is the whole of Farhop in one program: the daemon of a node,
// and the commands that make, watch and use it.
//
// It owns flags, exit codes and text, and nothing else: a node is package node,
// the commands that look into a running one speak to its API by package
// node/admin, virtual worlds are package sim. One file holds one command;
// run in root.go is the program without the process around it.
//
//	farhop init --region earth
//	farhop run
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the work in order; a second one ends the process.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
