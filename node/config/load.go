package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Check finds more faults of a configuration, such as those that only the
// packages know which are configured. Fields are paths, such as
// mqtt.listeners[0].url; File and Line are filled in by the caller. c may have
// faults already, and one of a field that has some is not told.
type Check func(c Config) []Fault

// Load reads and validates the file. The error joins every Fault, those of
// checks among them.
func Load(path string, checks ...Check) (Config, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("read configuration: %w; run farhop init or farhop join to make one", err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return read(path, filepath.Dir(path), data, checks)
}

// readFile reads at most one byte more than Parse accepts.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, MaxFile+1))
}

// Parse reads and validates the content of a file on top of Default. name is
// what errors call the file. The error joins every Fault, those of checks
// among them.
func Parse(name string, data []byte, checks ...Check) (Config, error) {
	return read(name, "", data, checks)
}

func read(name, dir string, data []byte, checks []Check) (Config, error) {
	c := Default()
	c.Dir = dir
	f := decode(name, data, &c, "run farhop init or farhop join to get one with comments")
	if len(f.lines) > 0 || len(f.list) == 0 {
		if _, set := f.lines["mqtt.listen"]; !set && len(c.MQTT.Listeners) > 0 {
			c.MQTT.Listen = "" // the default is for those who name no listener
		}
		c.validate(f)
		for _, check := range checks {
			f.check(check(c))
		}
	}
	if len(f.list) > 0 {
		return Config{}, f.err()
	}
	return c, nil
}

// Save validates c and writes it to path, which then has either the old
// content or the new one, also after a power failure. Comments somebody added
// to the old one are lost: it is for init and join.
func Save(path string, c Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	if err := replace(path, Render(c)); err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	return nil
}

func replace(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), FileName+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
