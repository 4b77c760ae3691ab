package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
)

func (a *app) passwdCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "passwd USER",
		GroupID: groupSetUp,
		Short:   "Make a line for the password file of MQTT devices",
		Long: `Make the line of one user for the password file that mqtt.users names. The
password is the first line of standard input; the line goes to standard output:

  printf '%s\n' "$PASSWORD" | farhop passwd plc >> users.txt

The node reads the file when it starts.`,
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
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
			if err != nil {
				return failed("choose one of at most 72 bytes", "the password cannot be used: %v", err)
			}
			_, err = fmt.Fprintf(a.out, "%s:%s\n", user, hash)
			return err
		},
	}
}
