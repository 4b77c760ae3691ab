package config

import "math"

// Limits bound what clients may take of a node; docs/limits.md tells of each.
// What is left out, or 0, has the default of package broker.
type Limits struct {
	ConnectRate       int  `json:"connect_rate,omitempty"`      // connections accepted a second at plain sockets
	PublishRate       int  `json:"publish_rate,omitempty"`      // publishes a second of one client, 0 for any
	Sessions          int  `json:"sessions,omitempty"`          // sessions, those that outlive their connections among them
	Subscriptions     int  `json:"subscriptions,omitempty"`     // filters of one client
	SubscriptionBytes Size `json:"subscription_bytes,omitzero"` // what they cost
	Queue             int  `json:"queue,omitempty"`             // messages that wait for one client in memory
	QueueBytes        Size `json:"queue_bytes,omitzero"`        // their bytes
	Pending           int  `json:"pending,omitempty"`           // publishes of one client that are not durable yet
	PendingBytes      Size `json:"pending_bytes,omitzero"`      // their bytes
	Memory            Size `json:"memory,omitzero"`             // of the process; beyond it clients get their share
	Window            int  `json:"window,omitempty"`            // QoS 1 and 2 deliveries under way to one client, unless it wants fewer

	Unreleased int `json:"unreleased,omitempty"` // QoS 2 publishes of one client whose PUBREL is not here yet

	FullSession string `json:"full_session,omitempty"` // a word of FullSessions: what becomes of a message for a session that has most of the store
}

// FullSessions are the words of Limits.FullSession: its publisher is refused,
// which is the default, or the session misses it.
func FullSessions() []string { return []string{"refuse", SkipFull} }

// SkipFull is the Limits.FullSession that loses messages.
const SkipFull = "skip"

// DefaultSessions is Limits.Sessions where it is left out.
const DefaultSessions = 250_000

// DefaultWindow is Limits.Window where it is left out: as much as MQTT may
// repeat to a device after its node was killed. It keeps any local network
// busy, but a session whose ends of deliveries go to a slow disk gets so many
// for each sync.
const DefaultWindow = 32

// DefaultLiveWindow is the same for a session that ends with its connection:
// nothing is repeated to it.
const DefaultLiveWindow = 256

// leastMemory is the least Limits.Memory.
const leastMemory = 16 << 20

func (l Limits) validate(f *faults) {
	number := func(key string, v int) {
		if v != 0 {
			inRange(f, "mqtt.limits."+key, v, 1, math.MaxInt32)
		}
	}
	size := func(key string, v, low, high Size) {
		if v != 0 {
			inRange(f, "mqtt.limits."+key, v, low, high)
		}
	}
	number("connect_rate", l.ConnectRate)
	number("publish_rate", l.PublishRate)
	number("sessions", l.Sessions)
	number("subscriptions", l.Subscriptions)
	number("queue", l.Queue)
	number("pending", l.Pending)
	if l.Window != 0 {
		inRange(f, "mqtt.limits.window", l.Window, 1, math.MaxUint16)
	}
	if l.Unreleased != 0 {
		inRange(f, "mqtt.limits.unreleased", l.Unreleased, 1, math.MaxUint16)
	}
	size("subscription_bytes", l.SubscriptionBytes, 1<<10, math.MaxInt32)
	size("queue_bytes", l.QueueBytes, 1, math.MaxInt32)
	size("pending_bytes", l.PendingBytes, 1, math.MaxInt32)
	size("memory", l.Memory, leastMemory, math.MaxInt64)
	if l.FullSession != "" {
		oneOf(f, "mqtt.limits.full_session", l.FullSession, FullSessions())
	}
}

func (l Limits) group() (g group) {
	g.number("connect_rate", l.ConnectRate)
	g.number("publish_rate", l.PublishRate)
	g.number("sessions", l.Sessions)
	g.number("subscriptions", l.Subscriptions)
	g.value("subscription_bytes", l.SubscriptionBytes)
	g.number("queue", l.Queue)
	g.value("queue_bytes", l.QueueBytes)
	g.number("pending", l.Pending)
	g.value("pending_bytes", l.PendingBytes)
	g.value("memory", l.Memory)
	g.number("window", l.Window)
	g.number("unreleased", l.Unreleased)
	g.add("full_session", l.FullSession)
	return g
}
