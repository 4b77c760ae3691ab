package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/broker/auth"
	"github.com/farhop/farhop/broker/listen"
)

// Config is what a Broker needs to know. The zero value of each field means
// its default.
type Config struct {
	// Listen is HOST:PORT for plain MQTT; default 127.0.0.1:1883 where there
	// are no Listeners.
	Listen    string
	Listeners []listen.Config    // more ways in
	Auth      auth.Authenticator // who may come in, nil = everybody
	Enhanced  auth.Enhanced      // authentication methods of MQTT 5, nil = none is known
	Anonymous bool               // lets everybody in where strangers can reach us, too
	Rules     *auth.Rules        // which topics, nil = all

	MaxPacket        int // bytes of one PUBLISH; default 1 MiB + 64 KiB
	MaxClients       int // connections; default 10,000
	MaxSubscriptions int // filters per client; default 1,000
	// MaxSubscriptionBytes bounds what the filters of one client cost, see
	// filterCost; default 2 MiB.
	MaxSubscriptionBytes int
	// MaxConnectRate is how many connections a second are accepted at plain
	// sockets; default 10,000. Others wait in the backlog of the system.
	MaxConnectRate int
	MaxPublishRate int // publishes a second of one client; 0 = any. One above it is read later
	// MaxMemory is how much the process may hold, in bytes, before clients are
	// held to their share of a quarter of it; default 1 GiB.
	MaxMemory        int64
	MaxQueue         int       // messages waiting for one client; default 8,192
	MaxQueueBytes    int       // bytes waiting for one client; default 8 MiB
	MaxPending       int       // publishes of one client that wait for the node; default 4,096
	MaxPendingBytes  int       // bytes of them; default 8 MiB; at either limit the client is read no further
	ReceiveMax       int       // QoS 1 and 2 publishes an MQTT 5 client may have open; default 1,024
	MaxUnreleased    int       // QoS 2 publishes of one client whose PUBREL is not here yet; default 16,384
	Window           int       // QoS 1 and 2 deliveries unacknowledged per client; default 1,024, less if the client says so
	LiveWindow       int       // the same of a client whose session ends with its connection; default Window
	MaxRetained      int       // messages; default 100,000
	MaxRetainedBytes int       // bytes; default 256 MiB
	Retained         *Retained // what the broker begins with; it is the broker's from then on; nil = nothing
	MaxSessionExpiry uint32
	ServerKeepAlive  uint16        // seconds: the longest keep-alive an MQTT 5 client gets; 0 = as it asks
	ConnectTimeout   time.Duration // from accept to CONNECT; default 30 s, which is ten round trips to the Moon
	SysInterval      time.Duration // between two tellings of what $SYS has for those who subscribed to it; default 10 s
	Version          string        // for $SYS/broker/version
	// Sys adds values of the node to $SYS: their topics below $SYS/broker/. It
	// is called while somebody subscribes, and ctx bounds it.
	Sys               func(ctx context.Context) []SysValue
	ListenInstruction string // how to choose another address, for the error; default "--mqtt HOST:PORT"

	Log        *slog.Logger          // nil = silent
	Registerer prometheus.Registerer // nil = not registered
}

const (
	defaultListen = "127.0.0.1:1883"
	maxControl    = 256 << 10 // bytes of a packet that is no PUBLISH
	maxClientID   = 1024      // bytes
	leastMemory   = 16 << 20
	maxAliases    = 10 // topic aliases a client may set (MQTT 5, 3.2.2.3.8)
)

func (c Config) withDefaults() Config {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.MaxPacket, 1<<20+64<<10)
	set(&c.MaxClients, 10_000)
	set(&c.MaxSubscriptions, 1_000)
	set(&c.MaxSubscriptionBytes, 2<<20)
	set(&c.MaxConnectRate, 10_000)
	set(&c.MaxQueue, 8_192)
	set(&c.MaxQueueBytes, 8<<20)
	set(&c.MaxPending, 4_096)
	set(&c.MaxPendingBytes, 8<<20)
	set(&c.ReceiveMax, 1_024)
	set(&c.MaxUnreleased, 16_384)
	set(&c.Window, 1_024)
	set(&c.LiveWindow, c.Window)
	set(&c.MaxRetained, 100_000)
	set(&c.MaxRetainedBytes, 256<<20)
	if c.Listen == "" && len(c.Listeners) == 0 {
		c.Listen = defaultListen
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = 1 << 30
	}
	if c.MaxSessionExpiry == 0 {
		c.MaxSessionExpiry = NeverExpires
	}
	if c.SysInterval == 0 {
		c.SysInterval = 10 * time.Second
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 30 * time.Second
	}
	if c.ListenInstruction == "" {
		c.ListenInstruction = "--mqtt HOST:PORT"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	open := c.Auth == nil && !c.Anonymous
	if c.Listen != "" {
		host, _, err := net.SplitHostPort(c.Listen)
		if err != nil {
			errs = append(errs, fmt.Errorf("mqtt.listen %q: %w: write HOST:PORT", c.Listen, err))
		} else if !isLoopback(host) && open {
			errs = append(errs, fmt.Errorf("mqtt.listen %q is %s", c.Listen, reachable))
		}
	}
	for _, l := range c.Listeners {
		err := l.Validate()
		if err != nil {
			errs = append(errs, err)
		} else if u, err := url.Parse(l.URL); err == nil && u.Scheme != listen.Unix && !isLoopback(u.Hostname()) && open {
			errs = append(errs, fmt.Errorf("mqtt.listeners %q is %s", l.URL, reachable))
		}
	}
	errs = append(errs, c.checkNumbers()...)
	return errors.Join(errs...)
}

// reachable is what is wrong with a listener that nobody guards.
const reachable = "reachable from other machines: set mqtt.users or another way to authenticate, or mqtt.anonymous: true to let anyone in"

func (c Config) checkNumbers() []error {
	var errs []error
	check := func(name string, v, low, high int) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("mqtt.%s %d: want %d to %d", name, v, low, high))
		}
	}
	check("max_packet", c.MaxPacket, 1024, 256<<20)
	check("max_clients", c.MaxClients, 1, math.MaxInt32)
	check("max_subscriptions", c.MaxSubscriptions, 1, math.MaxInt32)
	check("max_subscription_bytes", c.MaxSubscriptionBytes, 1024, math.MaxInt32)
	check("max_connect_rate", c.MaxConnectRate, 1, math.MaxInt32)
	check("max_publish_rate", c.MaxPublishRate, 0, math.MaxInt32)
	if c.MaxMemory < leastMemory {
		errs = append(errs, fmt.Errorf("mqtt.max_memory %d: want %d or more", c.MaxMemory, leastMemory))
	}
	check("max_queue", c.MaxQueue, 1, math.MaxInt32)
	check("max_queue_bytes", c.MaxQueueBytes, 1, math.MaxInt32)
	check("max_pending", c.MaxPending, 1, math.MaxInt32)
	check("max_pending_bytes", c.MaxPendingBytes, 1, math.MaxInt32)
	check("receive_max", c.ReceiveMax, 1, math.MaxUint16)
	check("max_unreleased", c.MaxUnreleased, 1, math.MaxUint16)
	check("window", c.Window, 1, math.MaxUint16)
	check("live_window", c.LiveWindow, 1, math.MaxUint16)
	check("max_retained", c.MaxRetained, 1, math.MaxInt32)
	check("max_retained_bytes", c.MaxRetainedBytes, 1, math.MaxInt)
	if c.ConnectTimeout < 0 {
		errs = append(errs, fmt.Errorf("mqtt.connect_timeout %v: want more than 0", c.ConnectTimeout))
	}
	if c.SysInterval < minSysInterval {
		errs = append(errs, fmt.Errorf("mqtt.sys_interval %v: want %v or more", c.SysInterval, minSysInterval))
	}
	return errs
}

// isLoopback reports whether only this machine can reach host. An empty host
// is every interface.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
