package sim

import (
	"embed"
	"slices"
	"strings"
)

//go:embed worlds/*.yaml
var worlds embed.FS

// Builtin returns the text of a built-in world.
func Builtin(name string) ([]byte, bool) {
	b, err := worlds.ReadFile("worlds/" + name + ".yaml")
	return b, err == nil
}

// Builtins returns the names of the built-in worlds.
func Builtins() []string {
	entries, _ := worlds.ReadDir("worlds")
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}
