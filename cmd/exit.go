package cmd

import (
	"errors"
	"slices"
	"strings"
	"syscall"

	"holdfast/backup"
	"holdfast/cmd/settings"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/s3"
	"holdfast/repo/image"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/restore"
	"holdfast/vmware"
	"holdfast/vmware/cbt"
	"holdfast/vmware/disk"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/target"
	"holdfast/vmware/vmdk"
)

// exitCode is what the program ends with. The codes are promised to scripts.
type exitCode int

const (
	exitDone         exitCode = 0
	exitFailed       exitCode = 1
	exitCrashed      exitCode = 2
	exitIncomplete   exitCode = 3
	exitNoRepository exitCode = 10
	exitBusy         exitCode = 11
	exitWrongKey     exitCode = 12
	exitDamaged      exitCode = 13
	exitUnreachable  exitCode = 14
	exitBrokenChain  exitCode = 15
	exitRefused      exitCode = 16
	exitDrillFailed  exitCode = 17
	exitInterrupted  exitCode = 130
)

// meanings explains the codes in EXIT STATUS sections and manual pages.
var meanings = map[exitCode]string{
	exitDone:         "done, and nothing that was wanted is missing",
	exitFailed:       "failed; also usage errors and an unknown or ambiguous POINT",
	exitCrashed:      "the program crashed",
	exitIncomplete:   "done, but something protected was left out or downgraded",
	exitNoRepository: "there is no repository here",
	exitBusy:         "something alive holds the same VM or database",
	exitWrongKey:     "wrong password or key",
	exitDamaged:      "damage beyond repair",
	exitUnreachable:  "source or target unreachable, or login refused",
	exitBrokenChain:  "the chain is broken or the moment asked for is not reachable",
	exitRefused:      "a pre-check refused; nothing was changed",
	exitDrillFailed:  "the drill failed",
	exitInterrupted:  "interrupted",
}

// Errors of the frame itself.
var (
	// errInterrupted: the operator or the system asked the run to stop.
	errInterrupted = errors.New("interrupted")
	// errCrashed: a command panicked. The value is not shown: it may hold anything.
	errCrashed = errors.New("the program crashed")
)

// exitRow says what an error means to the operator.
type exitRow struct {
	is   error
	code exitCode
	hint string // what to do about it; an error's own Hint goes before it
}

// exitTable is the one place where errors become exit codes. One line a
// sentinel; of several that match, the first row wins, so the graver and the
// more specific stand higher. An error that no row knows is a plain failure.
var exitTable = []exitRow{
	{errInterrupted, exitInterrupted, "run it again when you like: what is already stored is not sent twice"},
	{errCrashed, exitCrashed, "this is a bug; please report it with the lines above"},
	{settings.ErrRepositoryMissing, exitFailed, "give it with -r URL, HOLDFAST_REPOSITORY or repo: in a profile"},
	{repo.ErrNoRepository, exitNoRepository, "make one with holdfast init, or check the path"},
	{pack.ErrTampered, exitDamaged, "somebody changed what is stored, or two repositories were mixed: compare with another copy; holdfast check --read-data names the points that are hit"},
	{pack.ErrDamaged, exitDamaged, "holdfast check --read-data names the points and items that are hit; all others restore"},
	{repo.ErrUnlisted, exitDamaged, "holdfast repair index lists again whatever packs there are; then check tells what is really lost"},
	{repo.ErrMissing, exitDamaged, "holdfast repair index lists packs that the index does not know; holdfast check names the points that are hit"},
	{repo.ErrHealable, exitIncomplete, "holdfast scrub --heal mends it"},
	{repo.ErrKeyUnknown, exitFailed, "holdfast key list shows the keys there are"},
	{repo.ErrLastKey, exitFailed, "add another key first: holdfast key add"},
	{repo.ErrSessionLost, exitFailed, "run it again: what was stored is not sent twice"},
	{backup.ErrTorn, exitFailed, "nothing was committed: run it again, and let nobody remove snapshots of ours meanwhile"},
	{backup.ErrRelease, exitFailed, "holdfast vm cleanup removes what is left of ours"},
	{backup.ErrEmpty, exitFailed, "whatever was to write the image failed before its first byte"},
	{backup.ErrChanged, exitFailed, "back up a snapshot of it, not the image in use"},
	{backup.ErrExtents, exitFailed, `it is a JSON list, [{"start":bytes,"length":bytes},…], of the image as it is now`},
	{restore.ErrVerify, exitFailed, "the target does not keep what is written to it: check its disk and memory"},
	{restore.ErrFileExists, exitFailed, "choose another name, or say --overwrite"},
	{recovery.ErrUnknown, exitFailed, "holdfast points lists what there is"},
	{recovery.ErrAmbiguous, exitFailed, "give more of the id or of the source's name: holdfast points lists both"},
	{image.ErrIncomparable, exitFailed, "points with chunks of different sizes have no common map"},
	{local.ErrLocked, exitBusy, "only one program may write there at a time: wait for the other one to end"},
	{vmdk.ErrTruncated, exitFailed, "the VMDK ends too early: copy it again"},
	{vmdk.ErrNeedsDescriptor, exitFailed, "name the small .vmdk text file, not the data file that belongs to it"},
	{vmdk.ErrFormat, exitFailed, "the VMDK is damaged, or no VMDK: --format raw backs up the bytes as they are"},
	{vmware.ErrLogin, exitUnreachable, "check HOLDFAST_VCENTER_USER and HOLDFAST_VCENTER_PASSWORD"},
	{vmware.ErrCertificate, exitUnreachable, "pin the server's certificate with HOLDFAST_VCENTER_THUMBPRINT, or give its CA with --tls-ca"},
	{vmware.ErrUnreachable, exitUnreachable, "check HOLDFAST_VCENTER_URL and the network"},
	{vmware.ErrBusy, exitBusy, "wait for the other run to end"},
	{vmware.ErrNotFound, exitFailed, "holdfast vm list shows what there is"},
	{vmware.ErrAmbiguous, exitFailed, "give the inventory path or the instance UUID: holdfast vm list shows both"},
	{vmware.ErrQuiesce, exitFailed, "--on-quiesce-failure downgrade takes what the guest can give"},
	{vmware.ErrHasSnapshots, exitRefused, "remove the VM's snapshots first"},
	{vmware.ErrUnsupported, exitRefused, "holdfast vm cbt status tells why"},
	{cbt.ErrRequired, exitRefused, "without --cbt require the disk is read in full"},
	{snapshot.ErrLeft, exitFailed, "holdfast vm cleanup removes what is left of ours"},
	{target.ErrExists, exitRefused, "choose another --name, or say --overwrite"},
	{target.ErrRunning, exitRefused, "power it off first"},
	{target.ErrPlace, exitRefused, "name the place: --datastore, --host, --folder, --resource-pool, --network OLD=NEW"},
	{target.ErrMismatch, exitFailed, "the target does not keep what is written to it"},
	{disk.ErrTransport, exitFailed, "--transport auto chooses one that works"},
	{seal.ErrWrongKey, exitWrongKey, "try the other password, or the key file; holdfast key list tells which keys the repository has once it is open"},
	{seal.ErrKeyFile, exitWrongKey, "a key file is made by holdfast init --new-key-file or holdfast key add --new-key-file"},
	{s3.ErrAccess, exitUnreachable, "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the rights of that key"},
	{s3.ErrCertificate, exitUnreachable, "give the server's CA with --tls-ca"},
	{s3.ErrRegion, exitUnreachable, "set AWS_REGION"},
	{s3.ErrClock, exitUnreachable, "set this machine's clock"},
	{s3.ErrCredentials, exitUnreachable, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"},
	{s3.ErrLocation, exitFailed, "s3:https://host[:port]/bucket[/prefix], or s3:bucket/prefix at Amazon"},
	{backend.ErrUnreachable, exitUnreachable, "check the address, the network and the credentials of the repository"},
	{backend.ErrNoSpace, exitFailed, "free space in the repository's place; nothing that was stored is lost"},
	{syscall.ENOSPC, exitFailed, "free space there, or choose another place"},
	{backend.ErrDurability, exitFailed, "the disk or file system under the repository reports write errors; check it before the next run"},
}

// Hinter is an error that knows better than the table what to do about it.
type Hinter interface{ Hint() string }

// advised is an error with advice that fits the moment better than the table's.
type advised struct {
	error
	hint string
}

func (e *advised) Hint() string  { return e.hint }
func (e *advised) Unwrap() error { return e.error }

// usagef makes the error of a mistake on the command line.
func usagef(hint, format string, args ...any) error {
	return settings.Usagef(hint, format, args...)
}

// incompleteError ends a run that is done, but not whole: exit 3. It carries
// sentences, not errors: an error among the reasons would make it a failure.
type incompleteError struct{ reasons []string }

func (e *incompleteError) Error() string {
	return "done, but not complete: " + strings.Join(e.reasons, "; ")
}

// incomplete makes the error for exit 3; nil when there is no reason.
func incomplete(reasons ...string) error {
	if len(reasons) == 0 {
		return nil
	}
	return &incompleteError{reasons}
}

// classify gives the exit code and the hint for what a command returned. Of
// joined errors the gravest decides: interrupted, then errors in the order of
// the table, then plain failures, then 3.
func classify(err error) (exitCode, string) {
	if err == nil {
		return exitDone, ""
	}
	_, code, hint := judge(err)
	var own Hinter
	if errors.As(err, &own) && own.Hint() != "" {
		hint = own.Hint()
	}
	return code, hint
}

// judge returns the rank of err (lower is graver) with its code and hint.
func judge(err error) (rank int, code exitCode, hint string) {
	const plain = 1 << 20 // behind every row of the table but those of code 3
	rank, code = plain, exitFailed
	if row := slices.IndexFunc(exitTable, func(r exitRow) bool { return err == r.is }); row >= 0 {
		return rankOf(row, plain), exitTable[row].code, exitTable[row].hint
	}
	switch e := err.(type) {
	case *incompleteError:
		return plain + 1, exitIncomplete, ""
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			rank, code, hint = judge(inner)
		}
	case interface{ Unwrap() []error }:
		rank = plain + 2
		for _, inner := range e.Unwrap() {
			if r, c, h := judge(inner); r < rank {
				rank, code, hint = r, c, h
			}
		}
	}
	if is, ok := err.(interface{ Is(error) bool }); ok {
		for i, row := range exitTable {
			if r := rankOf(i, plain); r < rank && is.Is(row.is) {
				return r, row.code, row.hint
			}
		}
	}
	return rank, code, hint
}

// rankOf is the rank of a row of the table: its place, or behind the plain
// failures for what only makes a run incomplete.
func rankOf(row, plain int) int {
	if exitTable[row].code == exitIncomplete {
		return plain + 1
	}
	return row
}
