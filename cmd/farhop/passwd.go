package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/broker/auth"
)

func (a *app) passwdCmd() *cobra.Command {
	var bcrypt bool
	c := &cobra.Command{
		Use:     "passwd USER",
		GroupID: groupSetUp,
		Short:   "Make a line for the password file of MQTT devices",
		Long: `Make the line of one user for the password file that mqtt.users names. The
password is the first line of standard input; the line goes to standard output:

  printf '%s\n' "$PASSWORD" | farhop passwd plc >> users.txt

A running node sees within a second that the file changed. Clients that are
connected stay; a file with a fault changes nothing and is told in the log. The
password is kept as an argon2id hash, or with --bcrypt as one of bcrypt, which
other brokers read as well.`,
		Args: args(1, 1, "a user name"),
		RunE: func(c *cobra.Command, words []string) error {
			user := words[0]
			if user == "" || strings.ContainsAny(user, ":\n\r") || user[0] == '#' {
				return usage(c, "a user name is not empty, has no ':' and does not start with '#'")
			}
			password, err := bufio.NewReader(io.LimitReader(a.in, 1<<10)).ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if password = strings.TrimRight(password, "\r\n"); password == "" {
				return failed("printf '%s\\n' PASSWORD | farhop passwd "+user, "no password on standard input")
			}
			algorithm := auth.Argon2id
			if bcrypt {
				algorithm = auth.Bcrypt
			}
			hash, err := auth.Hash([]byte(password), algorithm)
			if err != nil {
				return failed("choose another one", "the password cannot be used: %v", err)
			}
			_, err = fmt.Fprintf(a.out, "%s:%s\n", user, hash)
			return err
		},
	}
	c.Flags().BoolVar(&bcrypt, "bcrypt", false, "make a bcrypt hash; its passwords have at most 72 bytes")
	return c
}
