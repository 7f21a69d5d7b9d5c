// Holdfast backs up VMware virtual machines and the SQL Servers inside them
// into a repository of its own, and brings them back.
package main

import (
	"os"

	"holdfast/cmd"
)

func main() {
	os.Exit(cmd.Main(os.Args[1:], cmd.Std{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}))
}
