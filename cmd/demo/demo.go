// Package demo tells the whole story of the program in a few seconds, with
// nothing but this machine: a laboratory vCenter, a VM whose disks hold real
// file systems, a full and an incremental backup, restores, a damaged
// repository that heals.
//
// It runs the program's own commands through a function it is given, as a user
// would type them, and shows what they say. What it claims it checks for itself,
// below those commands: it knows every byte of every file in the VM (content.go),
// reads the disks' file systems (guest.go), and compares the repository's files
// before the damage and after the healing (damage.go). A claim that is false
// ends the demo with an error. story.go is the story, stage.go what it stands
// on, tell.go how it is told.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/cmd/ui"
)

// DefaultDiskBytes is the size of each of the VM's two disks.
const DefaultDiskBytes = 256 * mib

// MaxDiskBytes is the largest --size: the file system code makes its tables in
// full, and the story should end within the minute.
const MaxDiskBytes = 16 << 30

// ErrClaim is returned when something that the demo claims is not so. That is
// a fault of the program, never of the user.
var ErrClaim = errors.New("a claim of the demo does not hold")

// ErrSize is returned for a size of disks that the story does not fit on.
var ErrSize = errors.New("the demo's disks have 64 MiB to 16 GiB")

// Runner runs one command line of the program (without its name) in this
// process, with that environment alone, and returns its exit code. When ctx
// ends the command must stop.
type Runner func(ctx context.Context, args, environ []string, out, errs io.Writer) int

// Options shape a demo. Run and UI are required.
type Options struct {
	DiskBytes int64            // size of each disk, default DefaultDiskBytes; rounded down to MiB
	Keep      bool             // leave the repository and the restored disk, and tell how to go on
	Run       Runner           //
	UI        *ui.Terminal     // where the story is told
	Out, Err  io.Writer        // the commands' own streams, default UI.Out() and nowhere; terminals get progress bars
	TempDir   string           // where the demo's folder is made, default the system's
	Windows   bool             // name variables as PowerShell does
	Now       func() time.Time // default time.Now
}

func (o *Options) fill() error {
	if o.DiskBytes == 0 {
		o.DiskBytes = DefaultDiskBytes
	}
	o.DiskBytes = o.DiskBytes / mib * mib
	if o.DiskBytes < MinDiskBytes || o.DiskBytes > MaxDiskBytes {
		return fmt.Errorf("make disks of %s: %w", ui.Bytes(o.DiskBytes), ErrSize)
	}
	if o.Out == nil {
		o.Out = o.UI.Out()
	}
	if o.Err == nil {
		o.Err = io.Discard
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Run tells the story. Whatever becomes of it, nothing of it is left behind,
// unless Options.Keep says so and it went well.
func Run(ctx context.Context, opt Options) error {
	if err := opt.fill(); err != nil {
		return err
	}
	s, err := newStage(ctx, opt)
	if err != nil {
		return err
	}
	err = s.story(ctx)
	if ctx.Err() != nil {
		err = ctx.Err() // what else went wrong, went wrong because of it
	}
	if left := s.close(err == nil && opt.Keep); left != nil {
		return errors.Join(err, left)
	}
	return err
}
