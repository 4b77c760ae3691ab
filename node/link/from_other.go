//go:build !linux

package link

import "errors"

// bindTo has packets of a socket leave by an interface.
func bindTo(uintptr, string) error {
	return errors.New("interfaces can be chosen on Linux; write an address of this machine")
}
