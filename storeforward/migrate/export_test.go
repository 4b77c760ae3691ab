package migrate

import "github.com/farhop/farhop/storeforward/store"

// What tests reach of a migration.
type (
	Names  = names
	Folder = folder
)

// The parts of the switch, and what decides which store is in use.
var (
	LookAt     = look
	PlaceNew   = place
	Flip       = flip
	Clean      = clean
	ErrDiffers = errDiffers
)

// Aside and Kept are names of the engine's store.
func (e Engine) Aside() string         { return e.aside() }
func (e Engine) Name() string          { return e.name() }
func (e Engine) Kept(to Engine) string { return e.kept(to) }

// WithStep has f called between the steps.
func (c Config) WithStep(f func(string)) Config { c.step = f; return c }

// WithFree says how much room the disk has.
func (c Config) WithFree(n int64) Config {
	c.free = func(string) (int64, bool) { return n, true }
	return c
}

// WithMaxBytes limits the new store.
func (c Config) WithMaxBytes(n int64) Config { c.maxBytes = n; return c }

// WithAppend has f see, and change, every batch for the new store.
func (c Config) WithAppend(f func(*store.Batch)) Config {
	c.wrap = func(e engine) engine { return appender{e, f} }
	return c
}

type appender struct {
	engine
	f func(*store.Batch)
}

func (a appender) Append(b *store.Batch) { a.f(b); a.engine.Append(b) }
