package routing

import (
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Limits of one advert. A node that has more aggregates or refuses before it
// advertises; a peer that sends more is malformed.
const (
	MaxNeighbors = 1024
	MaxFilters   = 16384
	MaxServices  = 1024
	MaxGroups    = 4096
	MaxGroupName = 1024 // bytes of the filter of a shared subscription
)

// Advert is what one node tells the mesh about itself. Adverts are flooded,
// newest Seq wins, and are kept on disk: interest seen before a partition
// keeps being served through it.
type Advert struct {
	Node      addr.Node
	Region    addr.Region
	Seq       uint64 // boot number << 32 | advert number of that boot
	Neighbors []Neighbor
	Interest  []string // MQTT topic filters of this node's subscribers, sorted
	Services  []ServiceState
	Fleet     FleetState
	Groups    []GroupState // shared subscriptions with members here, by filter
	Keeps     bool         `json:",omitempty"` // it keeps retained messages: who wants some may ask it
	Sessions  bool         `json:",omitempty"` // it holds sessions that outlive their connection: it is told where their clients are
}

// Neighbor is one adjacency as its near end sees it.
type Neighbor struct {
	Node   addr.Node
	Cost   uint32         // one-way delay, ms, at least 1
	Up     bool           // a session stands and is not silent
	Barred bundle.Classes `json:",omitempty"` // classes that no such session carries; never control
}

// Carries reports whether a class goes by the link now.
func (n Neighbor) Carries(class bundle.Class) bool { return n.Up && !n.Barred.Has(class) }

// weight is what the link costs a class: DownCost more while it does not carry it.
func (n Neighbor) weight(class bundle.Class) uint64 {
	w := uint64(max(n.Cost, 1))
	if !n.Carries(class) {
		w += DownCost
	}
	return w
}

// ServiceState says that a node has an endpoint of a TCP service.
type ServiceState struct {
	Name string
	Up   bool // its endpoint accepted the last connection attempt
}

// GroupState says that a node has members of a shared subscription (MQTT 5,
// 4.8.2). Such a filter is not among the node's Interest: a message goes to
// the one node that was chosen for the group.
type GroupState struct {
	Filter string // as it was subscribed to: "$share/GROUP/FILTER"
	Online bool   // a member is connected; else only sessions of members wait here
}

// FleetState is a node's place in the chain of configuration revisions.
type FleetState struct {
	Applied uint64 // sequence of the revision in force, 0 for none
	Refused uint64 // sequence of the last revision refused, 0 for none
	Reason  string // why it was refused, at most 256 bytes
}
