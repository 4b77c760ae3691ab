//go:build !unix

package main

import "errors"

func (*process) freeze(bool) {}

func (*campaign) needFreeze() error {
	return errors.New("this system cannot stop a process without ending it")
}
