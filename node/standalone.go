package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/farhop/farhop/node/config"
)

// Standalone is a node that is an MQTT broker and nothing else: it listens
// for no other node and serves no API unless told to. It needs no file: what
// it needs to be a node it makes in its data directory, where it also keeps
// its messages, so that it can join others' ranks later.
type Standalone struct {
	MQTT            config.HostPort // "" as in the directory, or the default
	Admin           config.HostPort // "" serves no API
	ServerKeepAlive uint16          // seconds, as broker.Config has it
}

// standaloneRegion is the region of a node that nobody named.
const standaloneRegion = "local"

// prepare makes the data directory's node if there is none.
func (o *Standalone) prepare(dir string) error {
	if o == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, config.FileName)); !errors.Is(err, fs.ErrNotExist) {
		return nil // a fault of it is reported by those who read it
	}
	_, err := Init(context.Background(), InitOptions{Dir: dir, Region: standaloneRegion})
	return err
}

// override takes out what a standalone node does not do.
func (o *Standalone) override(c *config.Config) {
	if o == nil {
		return
	}
	c.Admin.Listen, c.Peers, c.Links, c.DTN = o.Admin, nil, nil, config.DTN{}
	c.Services = nil
	if o.MQTT != "" {
		c.MQTT.Listen = o.MQTT
	}
}
