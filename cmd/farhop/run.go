package main

import (
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/config"
)

func (a *app) runCmd() *cobra.Command {
	var level, format string
	c := &cobra.Command{
		Use:     "run",
		GroupID: groupSetUp,
		Short:   "Run the node",
		Long: `Run the node in the data directory until it is stopped by SIGINT or SIGTERM.
It serves MQTT clients, other nodes, and the API that the other commands speak
to, at the addresses in farhop.yaml. Only one farhop runs in a data directory.

The log goes to standard error. When it is stopped, the node stops taking
messages, ends what it began and closes its store; a second signal ends it at
once, which costs nothing but repeated work: what was acknowledged is on disk.`,
		Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := a.dataDir()
			if err != nil {
				return err
			}
			cfg, err := config.Load(filepath.Join(dir, config.FileName))
			if err != nil {
				return a.noNode(dir, err)
			}
			if level != "" {
				cfg.Log.Level = level
			}
			if format != "" {
				cfg.Log.Format = format
			}
			if err := cfg.Validate(); err != nil {
				return usage(c, "%v", err)
			}
			return a.noNode(dir, runNode(c.Context(), dir, a.logger(cfg.Log), versionOf().Version))
		},
	}
	c.Flags().StringVar(&level, "log-level", "", "debug, info, warn or error, instead of log.level")
	c.Flags().StringVar(&format, "log-format", "", "text or json, instead of log.format")
	return c
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
