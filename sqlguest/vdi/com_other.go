//go:build !windows || !amd64

package vdi

import (
	"fmt"
	"runtime"

	"holdfast/sqlguest/server"
)

// Open is for Windows on amd64: here it is server.ErrNoVDI.
func Open(SetOptions) (Set, error) { return nil, Available() }

// Available is server.ErrNoVDI with the reason, or nil where Open can work.
func Available() error {
	return fmt.Errorf("%w: this program was built for %s on %s, the interface's client is for Windows on amd64", server.ErrNoVDI, runtime.GOOS, runtime.GOARCH)
}
