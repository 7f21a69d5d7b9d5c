// Instances prints the addresses of this machine's SQL Servers, one a line.
package main

import (
	"fmt"
	"os"

	"holdfast/sqlguest/direct"
)

func main() {
	addresses, err := direct.Addresses("")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, a := range addresses {
		fmt.Println(a)
	}
}
