// Package agent is server.Server from afar: a service beside the SQL Server, and a
// client that cannot be told from the server itself.
//
// The agent knows no policy. It runs statements, moves streams and answers for its
// machine; everything that is decided is decided by the client's side.
//
// # The protocol
//
// HTTP/2 over TLS 1.3 on one port, one connection. Both sides have a certificate of
// one authority that was made for this run and forgot its key; each accepts exactly
// the other's certificate (see Keys).
//
//	POST /session          stays open; all else lives in it
//	POST /query            {text, args} → rows
//	GET  /host, /checks    facts about the machine
//	POST /hold/ID          a lock, until DELETE or the session's end
//	POST /held             whether a lock is still held
//	POST /backup/ID        begins a BACKUP; ID is the client's
//	GET  /backup/ID/N      one device's bytes; the trailer says whether that is all
//	POST /backup/ID/commit the word → what SQL Server said
//	DELETE /backup/ID      abort
//	POST /staged           log backups that an earlier run has left in files
//	POST /restore/ID       begins a RESTORE
//	PUT  /restore/ID/N     one device's bytes; the trailer says whether that is all
//	GET  /restore/ID       waits for what SQL Server said
//	POST /goodbye          ends the agent
//
// # When the connection is cut
//
// The session's request ends with the connection, however that ends, and with it
// end all its statements, streams and locks: an aborted BACKUP truncates nothing. A
// stream without its trailer is an error (ErrCut), never an end. A session that is
// idle is found dead by pings. The agent ends with its session where it is told so
// (Once), and when none is there for IdleTimeout or Lifetime. A session that lives is
// never ended by a clock.
//
// # Flow
//
// A stream is read from SQL Server when HTTP/2's window has room, and the window has
// room when the client reads: a slow repository holds SQL Server back, and a few MiB
// a stream are in memory on either side.
package agent

import (
	"context"
	"errors"
	"time"

	"holdfast/sqlguest/agent/check"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/server"
)

// Port is where agents listen unless told otherwise.
const Port = 3542

// Version of the protocol. Both sides must have the same.
const Version = 2

var (
	// ErrCut: the connection to the agent was lost, or the agent ended the session.
	ErrCut = errors.New("connection to the agent was cut")
	// ErrBusy: the agent has a session already.
	ErrBusy = errors.New("the agent serves another session")
	// ErrVersion: the agent speaks another version of the protocol.
	ErrVersion = errors.New("the agent speaks another version of the protocol")
	// ErrNoStager: the server behind the agent keeps no staging files.
	ErrNoStager = errors.New("this server keeps no staging files")
	// ErrIdle: the service ended because nobody had a session for too long.
	ErrIdle = errors.New("no session for too long")
	// ErrLifetime: the service ended because its time was over.
	ErrLifetime = errors.New("lifetime is over")
)

const (
	idleTimeout  = 10 * time.Minute
	lifetime     = 24 * time.Hour
	pingAfter    = 15 * time.Second // of silence
	pingTimeout  = 15 * time.Second
	cleanupLimit = time.Minute // for what a session's end must end

	maxRequestBytes  = 16 << 20
	maxResponseBytes = 256 << 20

	headerSession = "Holdfast-Session"
	trailerEnd    = "Holdfast-End" // "eof", or a failure
	endOfStream   = "eof"
)

// Stager is what a server can do besides, whose log backups may have been left in
// staging files by a run that was cut: list them by device, and give one out as the
// backup that it is. *direct.Server and *Client are such servers.
type Stager interface {
	Staged(ctx context.Context, staging, local string) ([]string, error)
	Adopt(ctx context.Context, s server.Statement) (server.Backup, error)
}

// Check is one line of what an agent can tell about its machine.
type Check = check.Line

var (
	_ Stager = (*direct.Server)(nil)
	_ Stager = (*Client)(nil)
)
