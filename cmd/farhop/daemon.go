package main

import (
	"context"

	"github.com/farhop/farhop/node"
)

// These are all calls of package node.

func initNode(ctx context.Context, o node.InitOptions) (node.Created, error) {
	return node.Init(ctx, o)
}

func joinMesh(ctx context.Context, o node.JoinOptions) (node.Created, error) {
	return node.Join(ctx, o)
}

// runNode serves until ctx ends.
func runNode(ctx context.Context, dir string, o node.Options) error {
	n, err := node.Open(dir, o)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}
