//go:build !windows

package direct

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
)

// installed is for Windows: elsewhere a machine has one SQL Server without a name.
func installed() ([]string, error) { return nil, nil }

// program is where packages of SQL Server put it on Linux; there is no other place.
const program = "/opt/mssql/bin/sqlservr"

// bare tells whether it is certain that no SQL Server is installed here. One in a
// container is not seen, but answers; so ask it first.
func bare() bool {
	_, err := os.Lstat(program)
	return runtime.GOOS == "linux" && errors.Is(err, fs.ErrNotExist)
}
