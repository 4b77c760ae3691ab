//go:build !linux

package broker

import (
	"context"
	"errors"
	"net"
)

// poller is not there: connections are served by pumps.
type poller struct{}

func newPoller(*Broker) (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) run() {}

func (*poller) end() {}

func (b *Broker) acceptRaw(context.Context, net.Listener, []*poller) error {
	return errors.ErrUnsupported
}
