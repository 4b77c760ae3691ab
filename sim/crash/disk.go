package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// diskSize is what a node's disk holds: enough for its store, little enough
// to be filled in a moment.
const diskSize = 512 << 20

// disk is where a node keeps its data: a file system of its own if this
// machine allows it, so that it can be filled.
type disk struct {
	dir     string
	mounted bool
	full    *os.File // what fills it
}

// newDisk makes a file system in a file and mounts it at dir. Without the
// right to do so dir stays a plain directory, and why says what is missing.
func newDisk(ctx context.Context, dir string) (d *disk, why error, err error) {
	d = &disk{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	image := dir + ".img"
	f, err := os.OpenFile(image, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(diskSize), f.Close())
	}
	if err != nil {
		return nil, nil, err
	}
	for _, line := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput(); err != nil {
			return d, fmt.Errorf("%s: %w %s", line[0], err, strings.TrimSpace(string(out))), os.Remove(image)
		}
	}
	d.mounted = true
	return d, nil, nil
}

// fill leaves no room.
func (d *disk) fill() error {
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	if err != nil {
		return err
	}
	d.full = f
	chunk := make([]byte, 1<<20)
	for len(chunk) > 0 {
		if _, err = f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return fmt.Errorf("fill %s: %w", d.dir, err)
}

// free gives the room back.
func (d *disk) free() error {
	if d.full == nil {
		return nil
	}
	err := errors.Join(d.full.Close(), os.Remove(d.full.Name()))
	d.full = nil
	return err
}

// close unmounts the disk. What was on it is kept in the plain directory when
// it shall be looked at.
func (d *disk) close(keep bool) error {
	_ = d.free()
	if !d.mounted {
		return nil
	}
	aside := d.dir + ".kept"
	var errs []error
	if keep {
		errs = append(errs, os.CopyFS(aside, os.DirFS(d.dir)))
	}
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		return errors.Join(append(errs, fmt.Errorf("unmount %s: %w %s", d.dir, err, out))...)
	}
	errs = append(errs, os.Remove(d.dir+".img"))
	if keep {
		errs = append(errs, os.Remove(d.dir), os.Rename(aside, d.dir))
	}
	return errors.Join(errs...)
}
