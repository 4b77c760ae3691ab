package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads and validates the file. The error joins every Fault.
func Load(path string) (Config, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("read configuration: %w; run farhop init or farhop join to make one", err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(path, data)
	if err != nil {
		return Config{}, err
	}
	c.Dir = filepath.Dir(path)
	return c, nil
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
// what errors call the file. The error joins every Fault.
func Parse(name string, data []byte) (Config, error) {
	c := Default()
	f := decode(name, data, &c, "run farhop init or farhop join to get one with comments")
	if len(f.lines) > 0 || len(f.list) == 0 {
		c.validate(f)
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
