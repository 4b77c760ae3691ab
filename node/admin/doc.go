// Package admin is the local API of a node: the server that the daemon runs on
// admin.listen, the client by which the commands speak to it, and the status
// page.
//
// It owns the requests and answers (all in api.go, queue.go, devices.go, tap.go and fleet.go), the one route
// table, and who may ask: a bearer token from the file admin.token in the data
// directory, and a check of Host and Origin so that no web page can. It decides
// nothing about the mesh and keeps nothing but the token: every answer comes
// from a Backend, which package node implements. Its callers are node and
// cmd/farhop.
//
//	s, err := admin.New(admin.Config{Listen: "127.0.0.1:7331", Dir: dir, Backend: n, Gatherer: registry, Log: log})
//	err = s.Run(ctx)
//
//	c, err := admin.Dial(dir)
//	status, err := c.Status(ctx)
//
// Metrics and health (/metrics, /healthz, /readyz) and the files of the page
// need no token; they tell nothing of messages, and change nothing.
package admin
