package main

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/config"
)

func (a *app) runCmd() *cobra.Command {
	var level, format string
	var alone standaloneFlags
	c := &cobra.Command{
		Use:     "run",
		GroupID: groupSetUp,
		Short:   "Run the node",
		Long: `Run the node in the data directory until it is stopped by SIGINT or SIGTERM.
It serves MQTT clients, other nodes, and the API that the other commands speak
to, at the addresses in farhop.yaml. Only one farhop runs in a data directory.

The log goes to standard error. When it is stopped, the node stops taking
messages, ends what it began and closes its store; a second signal ends it at
once, which costs nothing but repeated work: what was acknowledged is on disk.

With --standalone it is an MQTT broker and nothing else: it needs no file, only a
data directory in which it makes what it needs, listens for no other node, and
serves no API without --admin, and that on loopback only. Without --users MQTT is
on loopback only, too. --acl takes access rules, --server-keepalive bounds the
silence of MQTT 5 clients. --listen takes tcp://HOST:PORT, ws://HOST:PORT/PATH and
unix:///PATH; listeners with a certificate are in the farhop.yaml that it makes.`,
		Example: "  farhop run\n  farhop run --standalone --dir broker --mqtt 127.0.0.1:1883\n" +
			"  farhop run --standalone --dir broker --listen tcp://:1883 --listen ws://:8083/mqtt --users users.txt --acl acl.txt",
		Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.dataDir()
			if err != nil {
				return err
			}
			opt := node.Options{Version: versionOf().Version}
			cfg := config.Default()
			if opt.Standalone, err = alone.options(c); err != nil {
				return err
			}
			if opt.Standalone == nil {
				if cfg, err = config.Load(filepath.Join(dir, config.FileName)); err != nil {
					return a.noNode(dir, err)
				}
			}
			if level != "" {
				cfg.Log.Level = level
			}
			if format != "" {
				cfg.Log.Format = format
			}
			if err := cfg.Log.Validate(); err != nil {
				return usage(c, "%v", err)
			}
			opt.Log = a.logger(cfg.Log)
			if err = runNode(c.Context(), dir, opt); opt.Standalone != nil {
				return err // it makes its node itself
			}
			return a.noNode(dir, err)
		},
	}
	c.Flags().StringVar(&level, "log-level", "", "debug, info, warn or error, instead of log.level")
	c.Flags().StringVar(&format, "log-format", "", "text or json, instead of log.format")
	alone.add(c)
	return c
}

// standaloneFlags are those of a node that is only a broker.
type standaloneFlags struct {
	on          bool
	mqtt, admin string
	listen      []string
	users, acl  string
	keepAlive   uint16
}

func (s *standaloneFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&s.on, "standalone", false, "be an MQTT broker and nothing else")
	f.StringVar(&s.mqtt, "mqtt", "", "with --standalone: HOST:PORT for MQTT clients (default 127.0.0.1:1883, none with --listen)")
	f.StringArrayVar(&s.listen, "listen", nil, "with --standalone: URL to listen at for MQTT clients: tcp, ws or unix; may be repeated")
	f.StringVar(&s.users, "users", "", "with --standalone: password file, made with farhop passwd")
	f.StringVar(&s.acl, "acl", "", "with --standalone: file of access rules")
	f.StringVar(&s.admin, "admin", "", "with --standalone: HOST:PORT for the API and the page (default: none)")
	f.Uint16Var(&s.keepAlive, "server-keepalive", 0, "with --standalone: longest keep-alive of an MQTT 5 client, in seconds (default: as it asks)")
}

// options returns nil without --standalone.
func (s *standaloneFlags) options(c *cobra.Command) (*node.Standalone, error) {
	o := &node.Standalone{ServerKeepAlive: s.keepAlive, Listen: s.listen, Users: s.users, ACL: s.acl}
	for _, at := range s.listen {
		if scheme, _, ok := strings.Cut(at, "://"); !ok || !slices.Contains([]string{"tcp", "ws", "unix"}, scheme) {
			return nil, usage(c, "--listen: %q is not tcp://HOST:PORT, ws://HOST:PORT/PATH or unix:///PATH; those that need a certificate are mqtt.listeners in %s", at, config.FileName)
		}
	}
	for _, f := range []struct {
		name, value string
		to          *config.HostPort
	}{{"mqtt", s.mqtt, &o.MQTT}, {"admin", s.admin, &o.Admin}} {
		if f.value == "" {
			continue
		}
		if err := f.to.UnmarshalText([]byte(f.value)); err != nil {
			return nil, usage(c, "--%s: %v", f.name, err)
		}
	}
	if s.on && o.Admin != "" && !o.Admin.Loopback() {
		return nil, usage(c, "--admin: %s can be reached from other machines; write 127.0.0.1:%d, or run the node without --standalone, where admin.remote in %s allows it", o.Admin, o.Admin.Port(), config.FileName)
	}
	if s.on {
		return o, nil
	}
	for _, name := range []string{"mqtt", "listen", "users", "acl", "admin", "server-keepalive"} {
		if c.Flags().Changed(name) {
			return nil, usage(c, "--%s needs --standalone; otherwise it is in %s", name, config.FileName)
		}
	}
	return nil, nil
}

// logger makes the daemon's log.
func (a *app) logger(l config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo // not reached: Validate knows the levels
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, o))
	}
	return slog.New(slog.NewTextHandler(a.err, o))
}
