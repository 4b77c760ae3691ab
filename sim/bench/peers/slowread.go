package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// readCap is the rate of slowRead, in bytes a second: a slow SD card.
const readCap = 20_000_000

// slowRead becomes the command in args, in a cgroup whose processes read
// 20 MB/s from the disk of dir. What the page cache has is read at full speed.
// The cgroup is left behind, empty, when the command ends.
func slowRead(dir string, args []string) error {
	if len(args) == 0 {
		return errors.New("slowread: say which command")
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("slowread: %w", err)
	}
	disk, err := diskOf(dir)
	if err != nil {
		return fmt.Errorf("slowread: %w", err)
	}
	name := fmt.Sprintf("farhop-bench-%d", os.Getpid())
	group := filepath.Join("/sys/fs/cgroup/blkio", name)
	v1 := limitDisk(group, "blkio.throttle.read_bps_device", fmt.Sprintf("%s %d", disk, readCap))
	if v1 != nil {
		group = filepath.Join("/sys/fs/cgroup", name)
		if v2 := limitDisk(group, "io.max", fmt.Sprintf("%s rbps=%d", disk, readCap)); v2 != nil {
			return fmt.Errorf("slowread: no cgroup limits the reads of disk %s here: as root, with the blkio controller (v1: %w) or with io (v2: %w)", disk, v1, v2)
		}
	}
	if err := joinGroup(group); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, args, os.Environ()))
}

// limitDisk makes a cgroup and writes one limit of it.
func limitDisk(group, file, text string) error {
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(group, file), []byte(text), 0); err != nil {
		return errors.Join(err, os.Remove(group))
	}
	return nil
}

// joinGroup moves this process into a cgroup, with all its threads: 0 is the
// process that writes (cgroups(7)).
func joinGroup(group string) error {
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("join the cgroup: %w", err)
	}
	return nil
}
