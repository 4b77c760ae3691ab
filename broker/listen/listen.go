package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Listen binds and returns the listener; ctx bounds the binding alone. For
// plain TCP and unix sockets without a proxy it is the bare *net.TCPListener
// or *net.UnixListener. Connections of all others implement Peered, have a
// CloseWrite, and take a read deadline in the past from any goroutine to end a
// read that waits, while writing goes on.
func Listen(ctx context.Context, cfg Config) (net.Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	at, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	m, err := newMeters(cfg.Registerer, at.kind)
	if err != nil {
		return nil, err
	}
	if at.kind == QUIC {
		return listenQUIC(ctx, cfg, at, m)
	}
	var raw net.Listener
	if at.kind == Unix {
		raw, err = bindUnix(ctx, at.addr, cfg.Mode)
	} else {
		raw, err = bindTCP(ctx, at.addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", cfg.URL, err)
	}
	if (at.kind == TCP || at.kind == Unix) && len(cfg.Proxy) == 0 {
		return raw, nil
	}
	return newGate(raw, cfg, at, m), nil
}

func bindTCP(ctx context.Context, addr string) (net.Listener, error) {
	// Negative: as the system has it, two hours. The standard library's probe
	// every 15 s costs a narrow link more than the MQTT keep-alive that the
	// device chose for it.
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		if e, ok := errors.AsType[*net.OpError](err); ok {
			err = e.Err // the URL says the rest
		}
		return nil, unbound(err)
	}
	return l, nil
}

// unbound adds to the error of a bind what to do about it.
func unbound(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: stop the program that has the address, or choose another one", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: it is no address of this machine; choose one that is, or leave it empty for all", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: ports below 1024 need a right (CAP_NET_BIND_SERVICE); choose another one", err)
	}
	return err
}
