package admin

import (
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// FleetPushRequest carries a file of resources, such as "farhop fleet push"
// reads: the backend parses it, so that both ends cannot differ in what it means.
type FleetPushRequest struct {
	File string `json:"file"` // what errors call it
	Data []byte `json:"data"` // YAML, at most config.MaxFile bytes; base64 in JSON
}

// FleetPushed is a revision that is on its way.
type FleetPushed struct {
	Revision  uint64 `json:"revision"`
	Hash      string `json:"hash"` // SHA-256 of the revision, hex
	Nodes     int    `json:"nodes"`
	Unchanged bool   `json:"unchanged,omitempty"` // the same resources are in force; Revision is the old one
}

// FleetStatus is how far the newest known revision has come.
type FleetStatus struct {
	Revision uint64      `json:"revision"` // 0 for none
	Hash     string      `json:"hash,omitempty"`
	Pushed   time.Time   `json:"pushed,omitzero"`
	Nodes    []FleetNode `json:"nodes"` // all known nodes, by name
}

// FleetNode is one node in the chain of revisions.
type FleetNode struct {
	Node    addr.Node   `json:"node"`
	Region  addr.Region `json:"region"`
	Applied uint64      `json:"applied"` // sequence in force, 0 for none
	Refused uint64      `json:"refused"` // last sequence refused
	Reason  string      `json:"reason,omitempty"`
	Up      bool        `json:"up"` // reachable now; others get it when they are
}
