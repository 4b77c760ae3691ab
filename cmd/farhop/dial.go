package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/spf13/cobra"

	"github.com/farhop/farhop/broker/bridge"
	"github.com/farhop/farhop/node/config"
)

// target is where a broker is.
type target struct {
	network, addr string         // for package net
	remote        *bridge.Remote // with TLS or WebSockets
}

// address returns where the broker is.
func (a *app) address(c *cobra.Command, b *brokerFlags) (target, error) {
	if (b.cert == "") != (b.key == "") {
		return target{}, usage(c, "--cert and --key belong together")
	}
	if b.url != "" {
		return b.parse(c)
	}
	if b.ca+b.cert != "" {
		return target{}, usage(c, "--ca, --cert and --key are for a --broker at mqtts:// or wss://")
	}
	cfg, path, err := a.loadConfig(nil)
	if err != nil {
		return target{}, err
	}
	switch m := cfg.MQTT; {
	case !m.Serves():
		return target{}, failed("name one with --broker, or set mqtt.listen", "the node runs no broker: mqtt.listen in %s is empty, and there are no mqtt.listeners", path)
	case m.Listen == "":
		return a.listener(c, m.Listeners, path)
	case m.Listen.Port() != 0:
		return target{network: "tcp", addr: localTarget(m.Listen)}, nil
	}
	st, err := a.status(c) // only the daemon knows the port it was given
	return target{network: "tcp", addr: st.MQTT.Listen}, err
}

// listener finds one among the listeners of a node that needs no certificate:
// TCP or a unix socket.
func (a *app) listener(c *cobra.Command, all []config.Listener, path string) (target, error) {
	var urls []string
	for _, l := range all {
		urls = append(urls, l.URL)
	}
	if slices.ContainsFunc(urls, func(u string) bool {
		return strings.HasPrefix(u, "tcp:") && strings.HasSuffix(strings.TrimRight(u, "/"), ":0")
	}) {
		st, err := a.status(c)
		if err != nil {
			return target{}, err
		}
		urls = st.MQTT.Listeners
	}
	for _, text := range urls {
		u, err := url.Parse(text)
		switch {
		case err != nil:
		case u.Scheme == "tcp":
			return target{network: "tcp", addr: localTarget(config.HostPort(u.Host))}, nil
		case u.Scheme == "unix":
			return target{network: "unix", addr: u.Path}, nil
		}
	}
	return target{}, failed("name it with --broker, such as mqtts://HOST:8883 with --ca FILE; or add one of tcp or unix, or mqtt.listen",
		"the node listens at %s (mqtt.listeners in %s) alone: by which name and certificate is not known here", strings.Join(urls, ", "), path)
}

// parse reads --broker.
func (b *brokerFlags) parse(c *cobra.Command) (target, error) {
	if path, ok := strings.CutPrefix(b.url, "unix://"); ok && strings.HasPrefix(path, "/") {
		return target{network: "unix", addr: path}, nil
	}
	text := b.url
	if !strings.Contains(text, "://") {
		text = "mqtt://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery+u.Fragment != "" {
		return target{}, usage(c, "--broker: %q is not mqtt, mqtts, ws or wss://HOST:PORT[/PATH], or unix:///PATH", b.url)
	}
	web, secure := false, false
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "tls", "ssl":
		u.Scheme, secure = "mqtts", true
	case "ws":
		web = true
	case "wss":
		web, secure = true, true
	default:
		return target{}, usage(c, "--broker: %q is none of mqtt, mqtts, ws, wss and unix", u.Scheme)
	}
	switch {
	case !web && strings.Trim(u.Path, "/") != "":
		return target{}, usage(c, "--broker: %q has a path, which is for ws and wss", b.url)
	case !secure && b.ca+b.cert != "":
		return target{}, usage(c, "--ca, --cert and --key are for mqtts:// and wss://, and --broker is %s://", u.Scheme)
	case !web && !secure && u.Port() == "":
		return target{network: "tcp", addr: net.JoinHostPort(u.Hostname(), "1883")}, nil
	case !web && !secure:
		return target{network: "tcp", addr: u.Host}, nil
	}
	return target{addr: u.Host, remote: &bridge.Remote{URL: u.String(), TLS: bridge.TLS{CA: b.ca, Cert: b.cert, Key: b.key}}}, nil
}

// localTarget is where a client on this machine reaches a listener.
func localTarget(h config.HostPort) string {
	host, port, err := net.SplitHostPort(string(h))
	if err != nil {
		return string(h)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// dial opens a connection that the MQTT client may write to at any time.
func (t target) dial(ctx context.Context, timeout time.Duration) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if t.remote == nil {
		conn, err = new(net.Dialer).DialContext(ctx, t.network, t.addr)
	} else if conn, _, err = t.remote.Dial(ctx); err == nil {
		conn = packets.NewThreadSafeConn(conn) // a packet is more than one write
	}
	if err == nil {
		return conn, nil
	}
	field := (*bridge.DialError)(nil)
	flags := map[string]string{"tls.ca": "--ca", "tls.cert and key": "--cert and --key", "tls": "TLS"}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) || t.network == "unix" && errors.Is(err, syscall.ENOENT):
		return nil, &failure{exitNotRunning, fmt.Errorf("no MQTT broker answers at %s", t.addr), "farhop run, or name another broker with --broker, such as the address of farhop run --standalone --mqtt"}
	case errors.As(err, &field) && flags[field.Field] != "":
		return nil, failed("check --broker, --ca, --cert and --key", "%s: %w", flags[field.Field], field.Err)
	case field != nil:
		err = field.Err
	}
	return nil, &failure{exitNotRunning, fmt.Errorf("reach the broker at %s: %w", t.addr, err), "check --broker, or mqtt.listen and mqtt.listeners"}
}
