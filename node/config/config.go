// Package config is the one configuration file of a node, farhop.yaml, and the
// mesh resources (services, routes and quotas) that have the same form in it and
// in a file for "farhop fleet push".
//
// It owns the schema, its defaults, its reading and its writing. Reading is
// strict: unknown and repeated keys, numbers without units, a second document
// and an empty file are faults, every fault names file, line and field and
// says what to do, and all of them are reported at once. It never opens what
// the file points to and never asks the network; nothing else in the program
// reads YAML. Callers are cmd/farhop, node and node/fleet.
//
//	c, err := config.Load("/var/lib/farhop/farhop.yaml")
//	if err != nil {
//		return err // one line per fault: farhop.yaml:7: mqtt.listen: ...
//	}
//	users := c.Path(c.MQTT.Users)
package config

import (
	"path/filepath"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

// FileName is the name of the file in a node's data directory.
const FileName = "farhop.yaml"

// Config is the whole file. The names in the file are those of the json tags.
type Config struct {
	Node      Node     `json:"node"`
	MQTT      MQTT     `json:"mqtt"`
	Mesh      Mesh     `json:"mesh"`
	Admin     Admin    `json:"admin"`
	Peers     []Peer   `json:"peers,omitempty"`
	Links     []Link   `json:"links,omitempty"`
	Store     Store    `json:"store"`
	Delivery  Delivery `json:"delivery"`
	Resources          // services, routes and quotas
	DTN       DTN      `json:"dtn,omitzero"`
	Log       Log      `json:"log"`

	// Dir is the directory of the file, to which relative file names in it
	// refer. It is not part of the file; Load sets it.
	Dir string `json:"-"`
}

// Node is who this node is. init and join write it; it must agree with the
// node's certificate, which the node checks at start.
type Node struct {
	Name   addr.Node   `json:"name,omitzero"`
	Region addr.Region `json:"region,omitzero"`
}

// Mesh is the side towards other nodes.
type Mesh struct {
	Listen    HostPort   `json:"listen"`
	Advertise []HostPort `json:"advertise,omitempty"` // where others reach us, for tickets
}

// Admin is the API, the page and the metrics.
type Admin struct {
	Listen HostPort `json:"listen"`
	Remote bool     `json:"remote"` // allows Listen to leave loopback
}

// Peer is a node to dial. Nodes are dialled only here, never at addresses
// learned from others.
type Peer struct {
	Address HostPort  `json:"address"`
	Node    addr.Node `json:"node,omitzero"` // who must answer there, zero for any node of the mesh
	LinkProps
	Uplink
	From string `json:"from,omitempty"` // what packets leave by: an address of this machine or an interface; "" as its routes say
}

// Link gives the properties of the link to a node that dials us.
type Link struct {
	Node addr.Node `json:"node"`
	LinkProps
	Uplink
}

// Uplink is what tells one of several links with a node from the others.
type Uplink struct {
	Name    string      `json:"link,omitempty"`    // what both ends call it, "" for the only one
	Cost    int         `json:"cost,omitempty"`    // the cheapest link that carries a class is used for it
	Classes []ClassName `json:"classes,omitempty"` // that it carries, and is preferred for; none for all
}

// maxCost is the largest Cost.
const maxCost = 1_000_000

// LinkProps is what cannot be measured, or not soon enough.
type LinkProps struct {
	Profile    string    `json:"profile,omitempty"`    // one of LinkProfiles, "" for what follows from the rest
	Layer      string    `json:"layer,omitempty"`      // one of LinkLayers, "" for the first
	OWLT       Duration  `json:"owlt,omitzero"`        // one-way light time, 0 to measure it
	Rate       Rate      `json:"rate,omitzero"`        // from here to there, 0 to find it out
	ReturnRate Rate      `json:"return_rate,omitzero"` // from there to here, 0 for Rate
	Loss       Share     `json:"loss,omitzero"`        // of packets, as far as it is known
	Burst      int       `json:"burst,omitzero"`       // packets lost in a row, on average; 0 for 1
	MTU        int       `json:"mtu,omitzero"`         // bytes of the largest IP packet, 0 for 1280
	Contacts   *Contacts `json:"contacts,omitempty"`
}

// LinkProfiles returns the kinds of links, from the nearest.
func LinkProfiles() []string {
	return []string{"lan", "wan", "cellular", "geo", "moon", "scheduled", "narrow"}
}

// LinkLayers returns what can carry the bundles of a link, the default first.
func LinkLayers() []string { return []string{"auto", "quic", "salvo", "tls"} }

// Contacts are the times at which a link can carry: from Start on, every Every
// for For. A nil Contacts is always.
type Contacts struct {
	Start Instant  `json:"start"`
	Every Duration `json:"every"`
	For   Duration `json:"for"`
}

// Store bounds the messages kept on disk.
type Store struct {
	// Engine is one of StoreEngines, or "": the one whose files are there
	// already, and the first of them where there are none.
	Engine      string `json:"engine,omitempty"`
	MaxBytes    Size   `json:"max_bytes"`
	MaxMessages int    `json:"max_messages"`
	// Retained messages are in memory too: about 300 bytes each, and their payload.
	MaxRetained      int  `json:"max_retained"`
	MaxRetainedBytes Size `json:"max_retained_bytes"`
}

// StoreEngines returns the values Store.Engine may have besides "".
func StoreEngines() []string { return []string{"journal", "bbolt"} }

// Delivery holds what is in force where no route says otherwise.
type Delivery struct {
	TTL        Duration `json:"ttl"`        // lifetime of a message whose client gives none
	OrderWait  Duration `json:"order_wait"` // how long a gap holds up what came after it
	MaxMessage Size     `json:"max_message"`
	Horizon    Duration `json:"retained_horizon"` // how long the deletion of a retained message is remembered
	Batch      Batch    `json:"batch"`
}

// Batch says how small messages that take the same way with the same class
// share one bundle.
type Batch struct {
	MaxBytes Size      `json:"max_bytes"` // payload of one bundle, 0 for a bundle per message
	Wait     BatchWait `json:"wait"`
}

// BatchWait is how long a message may wait for company, per class. With 0 it
// shares a bundle with what came in at the same moment, if anything did, and
// waits for nothing.
type BatchWait struct {
	Alarm       Duration `json:"alarm"`
	Interactive Duration `json:"interactive"`
	Telemetry   Duration `json:"telemetry"`
	Bulk        Duration `json:"bulk"`
}

// Of returns the wait of a class; the mesh's own control never waits.
func (w BatchWait) Of(c bundle.Class) time.Duration {
	switch c {
	case bundle.Alarm:
		return time.Duration(w.Alarm)
	case bundle.Interactive:
		return time.Duration(w.Interactive)
	case bundle.Telemetry:
		return time.Duration(w.Telemetry)
	case bundle.Bulk:
		return time.Duration(w.Bulk)
	case bundle.Control:
	}
	return 0
}

// Log is what the daemon writes to its standard error.
type Log struct {
	Level  string `json:"level"`  // one of LogLevels
	Format string `json:"format"` // one of LogFormats
}

// LogLevels and LogFormats return the values Log may have.
func LogLevels() []string  { return []string{"debug", "info", "warn", "error"} }
func LogFormats() []string { return []string{"text", "json"} }

// Default returns a configuration in which only node.name and node.region are
// missing. Devices and the admin API are on loopback; the mesh, in which
// every peer proves itself, is not.
func Default() Config {
	return Config{
		MQTT:  MQTT{Listen: "127.0.0.1:1883", MaxPacket: 1 << 20, MaxClients: 10_000},
		Mesh:  Mesh{Listen: ":7330"},
		Admin: Admin{Listen: "127.0.0.1:7331"},
		Store: Store{MaxBytes: 1 << 30, MaxMessages: 1_000_000, MaxRetained: 100_000, MaxRetainedBytes: 256 << 20},
		Delivery: Delivery{
			TTL: Duration(72 * time.Hour), OrderWait: Duration(10 * time.Minute), MaxMessage: 1 << 20, Horizon: Duration(8 * 24 * time.Hour),
			Batch: Batch{MaxBytes: 32 << 10},
		},
		Log: Log{Level: "info", Format: "text"},
	}
}

// Path makes a file name of the configuration usable: relative ones are
// relative to Dir. "" stays "".
func (c Config) Path(name string) string {
	if name == "" {
		return ""
	}
	name = filepath.FromSlash(name)
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.Dir, name)
}
