package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/farhop/farhop/node/config"
)

// Standalone is a node that is an MQTT broker and nothing else: it listens
// for no other node and serves no API unless told to. It needs no file: what
// it needs to be a node it makes in its data directory, where it also keeps
// its messages, so that it can join others' ranks later.
type Standalone struct {
	MQTT            config.HostPort // "" as in the directory, or the default, or none beside Listen
	Listen          []string        // URLs of listeners that need no file; nil as in the directory
	Users, ACL      string          // files; "" as in the directory
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

// override takes out what a standalone node does not do, and says what is
// wrong with what it was told to do instead.
func (o *Standalone) override(c *config.Config) error {
	if o == nil {
		return nil
	}
	c.Admin.Listen, c.Peers, c.Links, c.DTN = o.Admin, nil, nil, config.DTN{}
	c.Services = nil
	m := &c.MQTT
	if len(o.Listen) > 0 {
		m.Listen, m.Listeners = "", nil
		for _, at := range o.Listen {
			m.Listeners = append(m.Listeners, config.Listener{URL: at})
		}
	}
	if o.MQTT != "" {
		m.Listen = o.MQTT
	}
	if o.ServerKeepAlive > 0 {
		m.ServerKeepAlive = config.Duration(o.ServerKeepAlive) * config.Duration(time.Second)
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{o.Users, &m.Users}, {o.ACL, &m.Auth.ACL}} {
		if f.name == "" {
			continue
		}
		path, err := filepath.Abs(f.name)
		if err != nil {
			return err
		}
		*f.to = path
	}
	return o.named(checkStandalone(*c))
}

// flagError is an error of a value that a flag gave, in words of flags.
type flagError struct {
	text string
	err  error
}

func (e *flagError) Error() string { return e.text }
func (e *flagError) Unwrap() error { return e.err }

// named rewrites an error about keys of farhop.yaml whose values came from
// flags: there is no such line in the file.
func (o *Standalone) named(err error) error {
	if o == nil || err == nil {
		return err
	}
	text := err.Error()
	for _, k := range []struct {
		given    bool
		key, now string // key is a regular expression
	}{
		{true, `set mqtt\.users to a password file, or mqtt\.anonymous: true`, "name a password file with --users, or set mqtt.anonymous: true in " + config.FileName + " of the data directory"},
		{o.MQTT != "", `\bmqtt\.listen\b`, "--mqtt"},
		{len(o.Listen) > 0, `\bmqtt\.listeners\[\d+\]\.url\b`, "--listen"},
		{o.ServerKeepAlive > 0, `\bmqtt\.server_keepalive\b`, "--server-keepalive"},
		{o.Admin != "", `\badmin\.listen\b`, "--admin"},
		{o.Users != "", `^mqtt: users: `, "--users: "},
		{o.ACL != "", `^mqtt: acl: `, "--acl: "},
	} {
		if k.given {
			text = regexp.MustCompile(k.key).ReplaceAllLiteralString(text, k.now)
		}
	}
	if text == err.Error() {
		return err
	}
	return &flagError{text, err}
}
