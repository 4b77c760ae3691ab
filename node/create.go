package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

// Where things are in a data directory.
const (
	identityDir  = "identity"  // node.key, node.crt, trust.bin
	authorityDir = "authority" // keys and ledger; only where init was run
	ledgerFile   = "ledger.json"
	storeDir     = "store"
	quicFile     = "quic.key" // stateless reset and token keys
	begunDir     = "begun"    // beginnings of large bundles
	spoolDir     = "spool"    // what far links delivered out of order
	ticketsDir   = "tickets"  // of peers, for the first flight to them
)

// InitOptions are what farhop init takes. Empty addresses mean the defaults.
type InitOptions struct{ Dir, Region, Name, MQTT, Mesh, Admin string }

// Created is what init and join made.
type Created struct {
	Node   addr.Node
	Region addr.Region
	Dir    string
	Mesh   string // id of the mesh
}

// Init makes a mesh: its authority, and this node's identity and
// configuration. The directory is complete or not there at all.
func Init(_ context.Context, o InitOptions) (Created, error) {
	region, err := addr.ParseRegion(o.Region)
	if err != nil {
		return Created{}, fmt.Errorf("--region: %w", err)
	}
	var name addr.Node
	if o.Name != "" {
		if name, err = addr.ParseNode(o.Name); err != nil {
			return Created{}, fmt.Errorf("--name: %w", err)
		}
	}
	cfg, err := configFor(name, region, o.MQTT, o.Mesh, o.Admin)
	if err != nil {
		return Created{}, err
	}
	return build(o.Dir, ".init", func(dir string) (Created, error) { return initInto(dir, name, region, cfg) })
}

func initInto(dir string, name addr.Node, region addr.Region, cfg config.Config) (Created, error) {
	keys, _, err := identity.LoadOrNew(filepath.Join(dir, identityDir))
	if err != nil {
		return Created{}, err
	}
	if name.IsZero() {
		hash := keys.Public().Hash()
		if name, err = addr.ParseNode(region.Last() + "-" + hex.EncodeToString(hash[:2])); err != nil {
			return Created{}, fmt.Errorf("make a name: %w; choose one with --name", err)
		}
		cfg.Node.Name = name
	}
	now := time.Now()
	a, err := pki.NewAuthority(region, now)
	if err != nil {
		return Created{}, err
	}
	authority := filepath.Join(dir, authorityDir)
	if err := a.Save(authority); err != nil {
		return Created{}, err
	}
	ledger, err := pki.CreateLedger(a, filepath.Join(authority, ledgerFile))
	if err != nil {
		return Created{}, err
	}
	cert, err := ledger.Admit(pki.IssueRequest{Name: name, Region: region, Keys: keys.Public(), Now: now})
	if err != nil {
		return Created{}, err
	}
	return finish(dir, keys, cert, a.Trust(), cfg)
}

// finish writes what init and join have in common.
func finish(dir string, keys *identity.Node, cert []byte, trust *pki.Trust, cfg config.Config) (Created, error) {
	m, err := pki.NewMaterial(keys, cert, trust)
	if err != nil {
		return Created{}, err
	}
	if err := m.Save(filepath.Join(dir, identityDir)); err != nil {
		return Created{}, err
	}
	self := m.Self()
	cfg.Node = config.Node{Name: self.Node, Region: self.Region}
	if err := config.Save(filepath.Join(dir, config.FileName), cfg); err != nil {
		return Created{}, err
	}
	return Created{Node: self.Node, Region: self.Region, Mesh: self.Mesh.String()}, nil
}

// build lets fill make a directory beside dir and then moves it into place.
// What is left when fill fails is removed, unless fill says errKeep.
func build(dir, suffix string, fill func(string) (Created, error)) (Created, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Created{}, err
	}
	if err := vacant(dir); err != nil {
		return Created{}, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Created{}, fmt.Errorf("make the data directory: %w", err)
	}
	tmp := dir + suffix
	if err := identity.MakeDir(tmp); err != nil {
		return Created{}, fmt.Errorf("make the data directory: %w", err)
	}
	c, err := fill(tmp)
	if err != nil {
		if !errors.Is(err, errKeep) {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
		return Created{}, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Created{}, fmt.Errorf("put the data directory in place: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return Created{}, fmt.Errorf("put the data directory in place: %w", err)
	}
	c.Dir = dir
	return c, nil
}

// vacant reports why dir cannot become a data directory.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("data directory: %w", err)
	case len(entries) == 0:
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, config.FileName)); err == nil {
		return fmt.Errorf("data directory %s holds a node already; choose another --dir, or start it with: farhop run --dir %s", dir, dir)
	}
	return fmt.Errorf("data directory %s is not empty; choose another --dir", dir)
}

// configFor fills the default configuration with what flags say.
func configFor(name addr.Node, region addr.Region, mqtt, mesh, admin string) (config.Config, error) {
	cfg := config.Default()
	cfg.Node = config.Node{Name: name, Region: region}
	var errs []error
	set := func(flag, value string, dst *config.HostPort) {
		if value == "" {
			return
		}
		if err := dst.UnmarshalText([]byte(value)); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	set("mqtt", mqtt, &cfg.MQTT.Listen)
	set("mesh", mesh, &cfg.Mesh.Listen)
	set("admin", admin, &cfg.Admin.Listen)
	return cfg, errors.Join(errs...)
}
