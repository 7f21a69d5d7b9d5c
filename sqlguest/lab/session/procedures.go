package session

import (
	"context"
	"errors"
	"strings"
	"time"

	"holdfast/sqlguest/lab/applock"
	"holdfast/sqlguest/lab/catalog"
	"holdfast/sqlguest/lab/tsql/eval"
	"holdfast/sqlguest/lab/value"
)

// lockKey is a lock's name: locks belong to the database in which they are taken.
func (s *session) lockKey(resource string) string {
	return strings.ToLower(s.Database()) + "\x00" + resource
}

// getAppLock is sp_getapplock: 0 granted, 1 granted after waiting, -1 timed out, -2
// cancelled, -999 wrong parameters.
func (s *session) getAppLock(ctx context.Context, args []eval.Argument) (int64, error) {
	a := eval.ByName(args, "resource", "lockmode", "lockowner", "locktimeout", "dbprincipal")
	resource, mode, owner := eval.TextOr(a["resource"], ""), strings.ToLower(eval.TextOr(a["lockmode"], "")), strings.ToLower(eval.TextOr(a["lockowner"], "transaction"))
	switch mode {
	case "shared", "update", "intentshared", "intentexclusive", "exclusive":
	default:
		return -999, value.Errorf(15600, "An invalid parameter or option was specified for procedure 'sys.sp_getapplock'.")
	}
	if resource == "" || owner != "session" && owner != "transaction" {
		return -999, value.Errorf(15600, "An invalid parameter or option was specified for procedure 'sys.sp_getapplock'.")
	}
	if owner == "transaction" && s.tran.depth == 0 {
		return -999, value.Errorf(3928, "You attempted to acquire a transactional application lock without an active transaction.")
	}
	limit := time.Duration(-1)
	if ms, ok := a["locktimeout"].(int64); ok && ms >= 0 {
		limit = time.Duration(ms) * time.Millisecond
	}
	waited, err := s.of.locks.Take(ctx, s.lockKey(resource), applock.Holder{Session: s.id, Mode: mode, OfSession: owner == "session"}, limit)
	switch {
	case errors.Is(err, applock.ErrTimeout):
		return -1, nil
	case err != nil:
		return -2, err
	case waited:
		return 1, nil
	}
	return 0, nil
}

// releaseAppLock is sp_releaseapplock: 1223 if the lock is not held.
func (s *session) releaseAppLock(args []eval.Argument) (int64, error) {
	a := eval.ByName(args, "resource", "lockowner", "dbprincipal")
	key, ofSession := s.lockKey(eval.TextOr(a["resource"], "")), strings.EqualFold(eval.TextOr(a["lockowner"], "transaction"), "session")
	if s.of.locks.Release(key, s.id, ofSession) {
		return 0, nil
	}
	return -999, value.Errorf(1223, "Cannot release the application lock (Database Principal: 'public', Resource: '%s') because it is not currently held.", eval.TextOr(a["resource"], ""))
}

// fileExists is xp_fileexist with the path alone: one row. Every directory exists here,
// for the laboratory's files need none.
func (s *session) fileExists(b *eval.Batch, args []eval.Argument) error {
	if !s.login.Sysadmin {
		return value.Severe(229, 14, "The EXECUTE permission was denied on the object 'xp_fileexist', database 'mssqlsystemresource', schema 'sys'.")
	}
	if len(args) == 0 {
		return value.Severe(22001, 16, "xp_fileexist() returned error 201, 'Insufficient parameters'")
	}
	path, _ := args[0].Value.(string)
	columns := catalog.Columns("FileExists int, FileIsADirectory int, ParentDirectoryExists int") // it has spaces
	exists := int64(0)
	if s.of.opt.Media().FS.Exists(path) {
		exists = 1
	}
	return answer(b, columns, [][]any{{exists, int64(0), int64(1)}})
}

// makeDirectory is xp_create_subdir. Every directory exists here, and making one that
// exists is no error.
func (s *session) makeDirectory(args []eval.Argument) error {
	if !s.login.Sysadmin {
		return value.Severe(229, 14, "The EXECUTE permission was denied on the object 'xp_create_subdir', database 'mssqlsystemresource', schema 'sys'.")
	}
	if len(args) == 0 || eval.TextOr(args[0].Value, "") == "" {
		return value.Severe(22048, 16, "Error executing extended stored procedure: Invalid Parameter")
	}
	return nil
}

// Procedure runs the procedures that there are.
func (s *session) Procedure(ctx context.Context, b *eval.Batch, name []string, args []eval.Argument) (int64, error) {
	switch strings.ToLower(name[len(name)-1]) {
	case "sp_getapplock":
		return s.getAppLock(ctx, args)
	case "sp_releaseapplock":
		return s.releaseAppLock(args)
	case "xp_fileexist":
		return 0, s.fileExists(b, args)
	case "sp_reset_connection":
		s.rollback()
		return 0, nil
	case "sp_delete_database_backuphistory":
		s.of.opt.Server().ForgetHistory(eval.TextOr(eval.ByName(args, "database_name")["database_name"], ""))
		return 0, nil
	case "xp_create_subdir":
		return 0, s.makeDirectory(args)
	case "sp_detach_db":
		_, err := s.of.opt.Server().Detach(eval.TextOr(eval.ByName(args, "dbname")["dbname"], ""))
		return 0, failure(err)
	case "sp_renamedb":
		a := eval.ByName(args, "dbname", "newname")
		return 0, failure(s.of.opt.Server().Rename(eval.TextOr(a["dbname"], ""), eval.TextOr(a["newname"], "")))
	}
	return 0, value.Errorf(2812, "Could not find stored procedure '%s'.", strings.Join(name, "."))
}

func (s *session) killStatement(id int64) error {
	if !s.login.Sysadmin {
		return value.Severe(6102, 14, "User does not have permission to use the KILL statement.")
	}
	if id == s.id {
		return value.Errorf(6104, "Cannot use KILL to kill your own process.")
	}
	for _, other := range s.of.all() {
		if other.id == id {
			other.kill()
			return nil
		}
	}
	return value.Severe(6106, 16, "Process ID %d is not an active process ID.", id)
}
