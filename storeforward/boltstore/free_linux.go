package boltstore

import "golang.org/x/sys/unix"

// freeBytes is how many bytes the file system of a directory has left for a process
// without privileges; false when that is not known.
func freeBytes(dir string) (int64, bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, false
	}
	unit := int64(st.Frsize) //nolint:unconvert // differs by architecture
	if unit == 0 {
		unit = int64(st.Bsize) //nolint:unconvert // likewise
	}
	return int64(st.Bavail) * unit, true
}
