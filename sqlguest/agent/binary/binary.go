// Package binary carries the agent's programs for guests inside this one, compressed.
//
// `go generate ./sqlguest/agent/binary` builds them into the folder built; a release
// is built after that. Without it the folder is empty but for a note, everything
// builds as well, and For says that there is nothing to put into guests.
package binary

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/klauspost/compress/zstd"
)

//go:generate go run ./build built

//go:embed built
var built embed.FS

// ErrMissing: this program was built without an agent for that system.
var ErrMissing = errors.New("this program was built without an agent for the guest's system")

// maxBytes bounds what is unpacked.
const maxBytes = 256 << 20

// Name is the file of a system's agent. All guests are amd64: SQL Server is.
func Name(system string) string { return "agent-" + system + "-amd64.zst" }

// For is the agent's program for a system (windows, linux). Errors: ErrMissing.
func For(system string) ([]byte, error) {
	folder, err := fs.Sub(built, "built")
	if err != nil {
		return nil, fmt.Errorf("open built agents: %w", err)
	}
	return Read(folder, system)
}

// Read unpacks the agent's program for a system from a folder of built ones.
func Read(folder fs.FS, system string) ([]byte, error) {
	data, err := fs.ReadFile(folder, Name(system))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s on amd64)", ErrMissing, system)
	}
	if err != nil {
		return nil, fmt.Errorf("read agent for %s: %w", system, err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxBytes), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("unpack agent for %s: %w", system, err)
	}
	defer d.Close()
	program, err := d.DecodeAll(data, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack agent for %s: %w", system, err)
	}
	return program, nil
}
