package link

import "golang.org/x/sys/unix"

// bindTo has packets of a socket leave by an interface, and takes those alone
// that come in there.
func bindTo(fd uintptr, name string) error { return unix.BindToDevice(int(fd), name) }
