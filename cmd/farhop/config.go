package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/config"
)

func (a *app) configCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:     "config",
		GroupID: groupSetUp,
		Short:   "Check or show the configuration",
		Long: `The configuration of a node is farhop.yaml in its data directory. farhop init and
farhop join write it, with comments; the daemon reads it when it starts.`,
	}, a.configCheckCmd(), a.configShowCmd())
}

func (a *app) configCheckCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check farhop.yaml and say all that is wrong with it",
		Long: `Check the farhop.yaml of the data directory, or another file, as the daemon would
at its start: also the certificates, keys, password files and access rules that
its section mqtt names are read. Every fault is printed with its line; the exit
code is 1 if there is one. The daemon need not run, and nothing is started.`,
		Args: args(0, 1, "one file"),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		cfg, path, err := a.loadConfig(given, node.Check)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.out, cfg.Redacted())
		}
		_, err = fmt.Fprintf(a.out, "%s is good: node %s of region %s, %s, %s, %s\n", path, cfg.Node.Name, cfg.Node.Region,
			count(len(cfg.Peers), "peer", "peers"), count(len(cfg.Services), "service", "services"), count(len(cfg.Routes), "route", "routes"))
		return err
	}
	return c
}

func (a *app) configShowCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the configuration the daemon started with",
		Long: `Show the configuration that the running daemon started with, defaults filled in.
It may be older than farhop.yaml: that is read at the start only.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		cfg, err := cl.Config(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.out, cfg)
		}
		_, err = a.out.Write(config.Render(cfg))
		return err
	}
	return c
}

// loadConfig reads the file that was given, or that of the data directory.
func (a *app) loadConfig(given []string, checks ...config.Check) (cfg config.Config, path string, err error) {
	if len(given) > 0 {
		cfg, err = config.Load(given[0], checks...)
		return cfg, given[0], err
	}
	dir, err := a.dataDir()
	if err != nil {
		return cfg, "", err
	}
	path = filepath.Join(dir, config.FileName)
	cfg, err = config.Load(path, checks...)
	return cfg, path, a.noNode(dir, err)
}
