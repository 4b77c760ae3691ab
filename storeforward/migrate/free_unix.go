//go:build darwin || linux

package migrate

import "syscall"

// freeBytes returns what the disk of a folder has left for this user; false
// when nobody knows.
func freeBytes(dir string) (int64, bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
