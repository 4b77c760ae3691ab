//go:build !linux

package broker

import (
	"context"
	"errors"
	"net"
	"time"
)

// poller is not there: connections are served by pumps.
type poller struct{}

func newPoller(*Broker) (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) run() {}

func (*poller) end() {}

func (*poller) close() {}

// pathOfConn is not known here.
func pathOfConn(net.Conn) (rtt, rto time.Duration) { return 0, 0 }

// Connect opens a connection to the broker within this process.
func (b *Broker) Connect() (net.Conn, error) {
	ours, theirs := net.Pipe()
	b.work.Go(func() { b.ServeConn(theirs) }) // drain ends it
	return ours, nil
}

func (b *Broker) acceptRaw(context.Context, net.Listener, func() *poller) error {
	return errors.ErrUnsupported
}
