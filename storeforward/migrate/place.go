package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/farhop/farhop/storeforward/boltstore"
	"github.com/farhop/farhop/storeforward/journal"
)

// Engine names an engine as store.engine of farhop.yaml does.
type Engine string

// The engines.
const (
	Journal Engine = "journal"
	Bolt    Engine = "bbolt"
)

// Validate reports an engine that there is not.
func (e Engine) Validate() error {
	if e != Journal && e != Bolt {
		return fmt.Errorf("there is no engine %q; the engines are %s and %s", e, Journal, Bolt)
	}
	return nil
}

// other is the engine that e is not.
func (e Engine) other() Engine {
	if e == Journal {
		return Bolt
	}
	return Journal
}

// name is the file or folder of the engine's store.
func (e Engine) name() string {
	if e == Journal {
		return journal.FolderName
	}
	return boltstore.FileName
}

// aside is the folder in which a store of the engine is made.
func (e Engine) aside() string { return "migrating-to-" + string(e) }

// kept is the name of a store that gave way to one of the engine to.
func (e Engine) kept(to Engine) string { return e.name() + ".migrated-to-" + string(to) }

// Place says what a folder of stores holds.
type Place struct {
	// Engine is that of the store in use, "" when there is none.
	Engine Engine
	// Unfinished is the engine to which a migration was begun and not ended,
	// or "". What it left means nothing and is removed by the next one.
	Unfinished Engine
}

// Look finds out which store of a folder is in use, and changes nothing. A
// folder that does not exist is an empty one. An error says that only a person
// can tell.
func Look(dir string) (Place, error) {
	return look(dir, func(name string) (bool, error) {
		_, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	})
}

// look is Look over any directory; dir is for messages.
func look(dir string, exists func(name string) (bool, error)) (Place, error) {
	var found, begun []Engine
	for _, e := range []Engine{Journal, Bolt} {
		there, err := exists(e.name())
		if err != nil {
			return Place{}, err
		}
		if there {
			found = append(found, e)
		}
		if there, err = exists(e.aside()); err != nil {
			return Place{}, err
		}
		if there {
			begun = append(begun, e)
		}
	}
	switch {
	case len(found) == 2 && len(begun) == 1:
		return Place{Engine: begun[0].other(), Unfinished: begun[0]}, nil
	case len(found) == 2:
		return Place{}, fmt.Errorf("%s holds the stores of two engines, %s and %s; move the one that is not in use elsewhere",
			dir, Journal.name(), Bolt.name())
	case len(found) == 0 && len(begun) > 0:
		return Place{}, fmt.Errorf("%s holds %s, of a migration that was begun, and no store to migrate; put %s back, or remove %s to start empty",
			dir, begun[0].aside(), begun[0].other().name(), begun[0].aside())
	case len(found) == 0:
		return Place{}, nil
	}
	p := Place{Engine: found[0]}
	for _, e := range begun {
		if e != p.Engine { // to the engine in use: the switch happened
			p.Unfinished = cmp.Or(p.Unfinished, e)
		}
	}
	return p, nil
}
