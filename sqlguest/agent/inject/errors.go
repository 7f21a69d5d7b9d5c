package inject

import (
	"errors"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/program"
	"holdfast/sqlguest/direct"
)

var (
	// ErrOccupied: another run's agent is in the guest.
	ErrOccupied = errors.New("another run has its agent in the guest")
	// ErrRights: the guest's user cannot make the agent's directory safe. It is no
	// administrator, or its token is filtered.
	ErrRights = errors.New("guest user has not the rights of an administrator")
	// ErrRoom: the guest's file system has no room for the agent.
	ErrRoom = errors.New("no room for the agent in the guest")
	// ErrPlace: the directory for the agent is not safe.
	ErrPlace = errors.New("directory for the agent is not safe")
	// ErrAltered: the program in the guest is not the one that was copied.
	ErrAltered = errors.New("the agent was altered in the guest")
	// ErrAgent: the agent could not begin.
	ErrAgent = errors.New("agent could not begin")
	// ErrTaken: a program that is no agent listens on the agent's port in the guest.
	ErrTaken = errors.New("agent's port is taken in the guest")
	// ErrPort: the agent listens in the guest, and its port cannot be reached.
	ErrPort = errors.New("agent's port cannot be reached")
	// ErrFirewall: the guest's firewall could not be opened for the agent.
	ErrFirewall = errors.New("guest's firewall cannot be opened for the agent")
	// ErrSystem: there is no agent for the guest's system.
	ErrSystem = errors.New("no agent for the guest's system")
	// ErrLogin: the SQL Server beside the agent refuses the login.
	ErrLogin = program.ErrLogin
	// ErrSilent: nothing answers there.
	ErrSilent = program.ErrSilent
	// ErrNoServer: nothing answers in the guest as SQL Server, and none is installed there.
	ErrNoServer = direct.ErrNone
)

// word is what an agent that ended says, where it is known what that means: nothing of the
// agent itself has failed.
type word struct {
	is   error
	rest string
}

// Error is in the agent's own words.
func (w *word) Error() string { return w.is.Error() + w.rest }

// Unwrap gives what it means, and ErrAgent, which it is as well.
func (w *word) Unwrap() []error { return []error{w.is, ErrAgent} }

// hints are what helps, by error.
var hints = []struct {
	is   error
	text string
}{
	{ErrOccupied, "wait until the other run has ended; the agent of a run that was killed ends by itself within a minute"},
	{ErrRights, "log in to the guest as its built-in Administrator or a domain administrator whose token is not filtered, or set LocalAccountTokenFilterPolicy to 1 in the guest (User Account Control filters the tokens of other local administrators); on Linux as root"},
	{ErrRoom, "make room on the guest's system volume: the agent needs some 20 MiB"},
	{ErrPlace, "look at the directory in the guest: a link, a directory that is not the administrators', or a stranger's file is where the agent's would be; remove it, once it is known who made it"},
	{ErrAltered, "look at what changes or removes programs in the guest, such as a virus scanner, and let the agent's directory pass"},
	{ErrTaken, "choose another port with HOLDFAST_GUEST_PORT, or end what listens there"},
	{ErrPort, "let TCP from this machine to the agent's port of the guest pass (3542 unless another one was chosen), in the network and in the guest's firewall"},
	{ErrFirewall, "the guest's user must be an administrator whose token is not filtered, and no policy may forbid local firewall rules"},
	{ErrSystem, "SQL Server runs on Windows and Linux: look at the virtual machine's guest operating system"},
	{agent.ErrVersion, "the agent that was built into this program is of another version: take a released program, or build it anew with go generate ./... before go build"},
	{ErrNoServer, "if a SQL Server is there all the same, name it as the guest sees it: HOLDFAST_SQL_ADDRESS=127.0.0.1:PORT"},
	{direct.ErrElsewhere, "HOLDFAST_SQL_ADDRESS is what the guest calls its own SQL Server, such as localhost or 127.0.0.1:1433, or nothing at all; back up the other machine's with --vm or --instance"},
	{ErrLogin, "check HOLDFAST_SQL_USER and HOLDFAST_SQL_PASSWORD: a login of that SQL Server with the role sysadmin; without a user it is the guest's own that logs in"},
	{ErrSilent, "look whether the SQL Server's service runs in the guest, takes TCP, and at which port: HOLDFAST_SQL_ADDRESS=127.0.0.1:PORT names another one"},
	{ErrAgent, "the agent's own words say why; if it said nothing, look at a virus scanner in the guest"},
}

// Hint is a sentence of what helps against an error, "" if nothing is known.
func Hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.is) {
			return h.text
		}
	}
	return ""
}
