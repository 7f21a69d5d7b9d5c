package cmd

import (
	"errors"
	"syscall"

	"holdfast/backup"
	"holdfast/cmd/database"
	"holdfast/cmd/doctor"
	"holdfast/cmd/runlock"
	"holdfast/cmd/settings"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/local"
	"holdfast/repo/backend/s3"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/slot"
	"holdfast/restore"
	"holdfast/sqlguest"
	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/binary"
	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/datafiles"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	dbrevive "holdfast/sqlguest/revive"
	"holdfast/sqlguest/server"
	"holdfast/vmware"
	"holdfast/vmware/cbt"
	"holdfast/vmware/disk"
	"holdfast/vmware/guest"
	"holdfast/vmware/leftover"
	"holdfast/vmware/snapshot"
	"holdfast/vmware/target"
	"holdfast/vmware/task"
	"holdfast/vmware/vmdk"
)

// exitCode is what the program ends with. The codes are promised to scripts.
type exitCode = verdict.Code

const (
	exitDone         = verdict.Done
	exitFailed       = verdict.Failed
	exitCrashed      = verdict.Crashed
	exitIncomplete   = verdict.Short
	exitNoRepository = verdict.NoRepository
	exitBusy         = verdict.Busy
	exitWrongKey     = verdict.WrongKey
	exitDamaged      = verdict.Damaged
	exitUnreachable  = verdict.Unreachable
	exitBrokenChain  = verdict.BrokenChain
	exitRefused      = verdict.Refused
	exitInterrupted  = verdict.Interrupted
)

// Errors of the frame itself.
var (
	// errInterrupted: the operator or the system asked the run to stop.
	errInterrupted = errors.New("interrupted")
	// errCrashed: a command panicked. The value is not shown: it may hold anything.
	errCrashed = errors.New("the program crashed")
)

// exitRow says what an error means to the operator.
type exitRow verdict.Row

// exitTable is the one place where errors become exit codes. One line a
// sentinel; of several that match, the first row wins, so the graver and the
// more specific stand higher. An error that no row knows is a plain failure.
var exitTable = []exitRow{
	{errInterrupted, exitInterrupted, "run it again when you like"},
	{errCrashed, exitCrashed, "this is a bug; please report it with the lines above"},
	{settings.ErrRepositoryMissing, exitFailed, "give it with -r URL, HOLDFAST_REPOSITORY or repo: in a profile"},
	{s3.ErrNoBucket, exitNoRepository, "make the bucket, or check its name and the server in the repository's URL; holdfast makes none"},
	{repo.ErrCutOff, exitRefused, "unless another init is running there, remove what lies there, no more than keys/, ledger/ and spare/, and try again: nothing was ever stored with it"},
	{repo.ErrConfigLost, exitDamaged, "bring config, or spare/config, back from another copy of the repository: same name, same bytes; nothing opens it without"},
	{repo.ErrNotEmpty, exitRefused, "choose an empty or new place"},
	{repo.ErrNoRepository, exitNoRepository, "make one with holdfast init, or check the path"},
	{slot.ErrNoSlots, exitDamaged, "look at the place's rights and its listing; if the objects below keys/ are lost, bring them, or those below spare/keys/, back from a copy of the repository"},
	{slot.ErrMissed, exitWrongKey, "open it with another key; holdfast key remove and key add make a new one of this secret, holdfast scrub --heal may bring a damaged one back"},
	{slot.ErrRemoved, exitWrongKey, "use another key"},
	{slot.ErrUncertain, exitFailed, "holdfast key list shows whether the new key is there; holdfast key remove takes it away"},
	{slot.ErrBusy, exitFailed, "run it again"},
	{slot.ErrStillHeld, exitRefused, "holdfast key rotate keeps it from what is written from then on; try again once the lock has ended"},
	{seal.ErrForged, exitDamaged, "somebody changed what is stored, or two repositories were mixed: compare with another copy"},
	{seal.ErrUnknownEpoch, exitDamaged, "the place has lost, or withholds, what belongs to a key rotation: bring the objects below epochs/ and spare/epochs/ back from a copy"},
	{seal.ErrNotVouched, exitRefused, "holdfast key passwd, or key add, makes a key that a rotation can reach"},
	{seal.ErrRingFull, exitRefused, "holdfast copy to a new repository begins anew"},
	{repo.ErrLedger, exitDamaged, "both copies of the newest entry are lost: holdfast scrub --heal may mend one; else bring the entry named above back from another copy of the repository, as ledger/ or spare/ledger/; if it is gone and there is no copy, holdfast repair index carries on from the entry before. Until then nothing can be written; everything restores, and holdfast copy saves it to a new repository"},
	{pack.ErrTampered, exitDamaged, "somebody changed what is stored, or two repositories were mixed: compare with another copy; holdfast check --read-data names the points that are hit"},
	{repo.ErrVanished, exitDamaged, "bring its object below commit/ back from a copy of the repository, or acknowledge the loss: holdfast forget ID"},
	{pack.ErrDamaged, exitDamaged, "holdfast check --read-data names the points and items that are hit; all others restore"},
	{repo.ErrUnlisted, exitIncomplete, "holdfast repair index makes the index anew from the packs; check then tells whether anything is lost"},
	{repo.ErrMissing, exitDamaged, "holdfast repair index lists packs that the index does not know; holdfast check names the points that are hit"},
	{repo.ErrIndexLost, exitRefused, "holdfast repair index makes the index anew from the packs; then prune again"},
	{repo.ErrPruneBlocked, exitDamaged, "holdfast check names what is damaged; if it finds nothing, prune again. Only a point that check calls lost need be forgotten"},
	{repo.ErrPruneContended, exitFailed, "other prunes run at the same time: run it again"},
	{ledger.ErrFull, exitRefused, "holdfast forget --keep-last N makes room; backups and restores go on meanwhile"},
	{repo.ErrNoLock, exitRefused, "objects are locked in S3 buckets that were made with Object Lock; without --object-lock the repository can be made here"},
	{errPinned, exitRefused, "holdfast unpin lets it go"},
	{recovery.ErrNeeded, exitRefused, "name all of them, or let all be"},
	{recovery.ErrStaleClock, exitRefused, "set the clock, or forget by its id the point that a wrong clock has made, or say --allow-stale or --now TIME"},
	{repo.ErrBehind, exitUnreachable, "the place answers with an older state than it has: wait a little, and run it again"},
	{repo.ErrPinned, exitRefused, "holdfast unpin lets it go"},
	{repo.ErrHarmless, exitIncomplete, "what is of a forgotten point the next holdfast prune removes; an old entry of the ledger only keeps its number: let it lie, for whoever deletes it frees that, or put it back from another copy of the repository"},
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
	{runlock.ErrHeld, exitBusy, "wait for the other restore to end, or choose another name"},
	{recovery.ErrUnknown, exitFailed, "holdfast points lists what there is"},
	{recovery.ErrAmbiguous, exitFailed, "give more of the id or of the source's name: holdfast points lists both"},
	{image.ErrIncomparable, exitFailed, "points with chunks of different sizes have no common map"},
	{local.ErrLocked, exitBusy, "only one program may write there at a time: wait for the other one to end"},
	{vmdk.ErrTruncated, exitFailed, "the VMDK ends too early: copy it again"},
	{vmdk.ErrNeedsDescriptor, exitFailed, "name the small .vmdk text file, not the data file that belongs to it"},
	{vmdk.ErrFormat, exitFailed, "the VMDK is damaged, or no VMDK: --format raw backs up the bytes as they are"},
	{guest.ErrOff, exitRefused, "power the VM on"},
	{guest.ErrTools, exitRefused, "start VMware Tools in the guest, or install them"},
	{guest.ErrLogin, exitUnreachable, "check HOLDFAST_GUEST_USER and HOLDFAST_GUEST_PASSWORD"},
	{guest.ErrDenied, exitRefused, "the guest user must be an administrator: a filtered token, as UAC gives it, is not enough"},
	{guest.ErrPrivilege, exitRefused, "the vCenter user needs VirtualMachine.GuestOperations.Query, .Modify and .Execute"},
	{guest.ErrAddress, exitUnreachable, "give the guest's address with HOLDFAST_GUEST_ADDRESS"},
	{inject.ErrOccupied, exitBusy, "wait for the other run to end"},
	{inject.ErrPort, exitUnreachable, "let TCP to the agent's port pass, 3542 unless HOLDFAST_GUEST_PORT says otherwise"},
	{inject.ErrRights, exitRefused, "the guest user must be an administrator whose token is not filtered; root on Linux"},
	{inject.ErrRoom, exitRefused, "make room on the guest's system volume"},
	{inject.ErrTaken, exitRefused, "another port: HOLDFAST_GUEST_PORT"},
	{inject.ErrFirewall, exitRefused, "the guest user must be an administrator whose token is not filtered"},
	{inject.ErrPlace, exitRefused, "look at the agents' directory in the guest"},
	{inject.ErrAltered, exitRefused, "let the virus scanner pass the agents' directory in the guest"},
	{inject.ErrSystem, exitRefused, "SQL Server runs on Windows and Linux"},
	{direct.ErrElsewhere, exitRefused, "HOLDFAST_SQL_ADDRESS is what the guest calls its own SQL Server, such as localhost or 127.0.0.1:1433, or nothing at all; back up the other machine's with --vm or --instance"},
	{inject.ErrAgent, exitUnreachable, "the agent's own words say why"},
	{agent.ErrVersion, exitRefused, "program and agent must be of one version: take a released program, or go generate ./... builds its agents anew"},
	{agent.ErrCut, exitFailed, "SQL Server has truncated nothing that is not stored; look whether the network was cut, or the agent was ended in the guest (a virus scanner, a reboot), and run it again"},
	{doctor.ErrFailed, exitRefused, "each line that failed says what helps"},
	{binary.ErrMissing, exitRefused, "go generate ./... builds the agents into the program; the released program has them"},
	{server.ErrLockLost, exitBusy, "SQL Server ended the session that kept others away (KILL, a restart, a network that was cut), and another run may have gone on: run it again"},
	{server.ErrHeld, exitBusy, "another backup or restore of the database is under way: wait for it to end"},
	{database.ErrLogin, exitUnreachable, "check HOLDFAST_SQL_USER and HOLDFAST_SQL_PASSWORD; without a user it is the Windows login of this process"},
	{database.ErrCertificate, exitUnreachable, "give its authority with --tls-ca and its name as the certificate has it with --instance; or take any certificate, and whoever answers: HOLDFAST_SQL_TRUST=1, in a profile trust: true under sql"},
	{database.ErrUnreachable, exitUnreachable, "check --instance, the service and the network; a port is given as HOST:PORT"},
	{database.ErrTransport, exitRefused, "run it beside the SQL Server, or give a directory that both reach: --staging SERVERPATH=LOCALPATH"},
	{direct.ErrStaging, exitRefused, "both sides must reach the directory: --staging SERVERPATH=LOCALPATH"},
	{sqlguest.ErrUnconfirmed, exitFailed, "the point is stored; the next backup asks SQL Server what became of it"},
	{sqlguest.ErrBroken, exitIncomplete, "a full backup follows"},
	{sqlguest.ErrNoDatabase, exitFailed, "holdfast sql databases shows what there is"},
	{chain.ErrBroken, exitBrokenChain, "holdfast backup sql mends it: a full follows where the chain is broken"},
	{datafiles.ErrTaken, exitRefused, "if a run that was killed has left it, drop it: DROP DATABASE"},
	{datafiles.ErrDirectory, exitRefused, "name a shorter one: the files' paths may have 256 characters"},
	{datafiles.ErrLeft, exitFailed, "drop it by hand: DROP DATABASE"},
	{dbrevive.ErrAddress, exitRefused, "set HOLDFAST_SQL_ADDRESS to what the restored machine calls its own SQL Server, such as localhost or 127.0.0.1:1433, or leave it away"},
	{dbrevive.ErrUndone, exitRefused, "leave --app away: the disks have the databases; then holdfast restore sql brings one to any moment that its backups reach"},
	{dbrevive.ErrNone, exitRefused, "restore the virtual machine alone, without --app"},
	{dbrevive.ErrOther, exitRefused, "look at it, and restore it with holdfast restore sql if it is to be overwritten"},
	{dbrevive.ErrMissed, exitBrokenChain, "look at what the disks hold; holdfast restore sql --to-vm brings it to an older backup"},
	{dbrevive.ErrForgotten, exitBrokenChain, "the disks have the database as it was when the virtual machine was backed up; holdfast restore sql --to-vm brings it to a moment that its backups reach"},
	{database.ErrOtherServer, exitUnreachable, "say where to with --to-vm or --to-instance"},
	{plan.ErrUnreachable, exitBrokenChain, "holdfast chain shows what can be restored"},
	{plan.ErrAmbiguous, exitBrokenChain, "an LSN or a point means one moment alone"},
	{replay.ErrAstray, exitBrokenChain, "the backups in the repository do not fit together as they say: holdfast check, and restore to an earlier point"},
	{replay.ErrMissed, exitBrokenChain, "holdfast sql marks shows the marks that are known"},
	{replay.ErrRefused, exitRefused, "holdfast restore sql --plan shows every reason"},
	{sqlguest.ErrRefused, exitRefused, "holdfast sql databases shows why"},
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
	{leftover.ErrLeft, exitFailed, "an import that is still open ends by itself in minutes: try again then"},
	{snapshot.ErrLeft, exitFailed, "holdfast vm cleanup removes what is left of ours"},
	{target.ErrExists, exitRefused, "choose another --name, or say --overwrite"},
	{target.ErrName, exitRefused, "choose another --name"},
	{target.ErrRunning, exitRefused, "power it off first"},
	{target.ErrPlace, exitRefused, "name the place: --datastore, --host, --folder, --resource-pool, --network OLD=NEW"},
	{task.ErrNoSpace, exitFailed, "free space on the datastore, or choose another one"},
	{target.ErrMismatch, exitFailed, "the target does not keep what is written to it"},
	{disk.ErrTransport, exitFailed, "--transport auto chooses one that works"},
	{seal.ErrWrongKey, exitWrongKey, "try the other password, or the key file; holdfast key list tells which keys the repository has once it is open"},
	{seal.ErrMistyped, exitWrongKey, "compare that row with the sheet; it matters neither how the groups are separated nor whether letters are small"},
	{seal.ErrKeyFile, exitWrongKey, "a key file is made by holdfast init --new-key-file or holdfast key add --new-key-file"},
	{s3.ErrLocked, exitFailed, "it can be deleted once its lock has ended: run it again then"},
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

// usagef makes the error of a mistake on the command line.
func usagef(hint, format string, args ...any) error {
	return settings.Usagef(hint, format, args...)
}

// classify gives the exit code and the hint for what a command returned.
func classify(err error) (exitCode, string) {
	table := make(verdict.Table, len(exitTable))
	for i, row := range exitTable {
		table[i] = verdict.Row(row)
	}
	return table.Classify(err)
}
