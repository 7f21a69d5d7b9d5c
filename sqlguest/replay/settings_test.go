package replay_test

import (
	"strings"
	"testing"

	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/server"
)

// settings are the database's, in words.
func (i *instance) settings(database string) string {
	i.t.Helper()
	rows, err := i.sql.Query(i.t.Context(), "SELECT SUSER_SNAME(owner_sid), user_access_desc, is_trustworthy_on, is_db_chaining_on, is_broker_enabled, is_read_only FROM sys.databases WHERE name = @db", server.Arg{Name: "db", Value: database})
	i.must(err)
	v := rows.Values[0]
	text := v[0].(string) + " " + v[1].(string)
	for k, name := range []string{"trustworthy", "chaining", "broker", "read-only"} {
		if v[2+k] == true {
			text += " " + name
		}
	}
	return text
}

func (i *instance) wantSettings(database, want string) {
	i.t.Helper()
	if got := i.settings(database); got != want {
		i.t.Errorf("%s is %q, want %q", database, got, want)
	}
}

// TestQ24WhatARestoreDoesNotBringBackIsSetAgain where that is harmless, and told of
// where it is not.
func TestQ24WhatARestoreDoesNotBringBackIsSetAgain(t *testing.T) {
	w := newWorld(t)
	w.exec("ALTER AUTHORIZATION ON DATABASE::sales TO boss; ALTER DATABASE sales SET TRUSTWORTHY ON; ALTER DATABASE sales SET DB_CHAINING ON; ALTER DATABASE sales SET RESTRICTED_USER")
	const all = "boss RESTRICTED_USER trustworthy chaining broker"
	w.wantSettings("sales", all)
	s := w.live()
	res := w.restore(w.instance, plan.Target{}, plan.Options{Replace: true, Kick: true})
	w.wantSettings("sales", all)
	if len(res.Warnings) != 0 {
		t.Errorf("%q", res.Warnings)
	}
	w.restore(w.instance, plan.Target{Point: s.full}, plan.Options{Replace: true})
	w.wantSettings("sales", all)

	res = w.restore(w.instance, plan.Target{Point: s.full}, plan.Options{As: "copy"})
	w.wantSettings("copy", "boss RESTRICTED_USER")
	if all := strings.Join(res.Warnings, "\n"); !strings.Contains(all, "TRUSTWORTHY is not set for copy") || !strings.Contains(all, "DB_CHAINING") || len(res.Warnings) != 2 {
		t.Error(all)
	}
	other := start(t, lab.Options{Name: "OTHER", Now: w.clock})
	other.exec("CREATE DATABASE x") // its owner is another
	res = w.restore(other, plan.Target{Point: s.full}, plan.Options{})
	other.wantSettings("sales", "boss RESTRICTED_USER")
	if len(res.Warnings) != 2 {
		t.Errorf("%q", res.Warnings)
	}
}

// TestOwnerWhoIsNotThereIsTold: everything else is set all the same.
func TestOwnerWhoIsNotThereIsTold(t *testing.T) {
	w := newWorld(t)
	w.exec("ALTER AUTHORIZATION ON DATABASE::sales TO boss; ALTER DATABASE sales SET READ_ONLY")
	s := w.back("full", "sales")
	res := w.restore(start(t, lab.Options{Name: "OTHER", Now: w.clock, Edition: "no boss"}), plan.Target{Point: s[0]}, plan.Options{As: "copy"})
	if all := strings.Join(res.Warnings, "\n"); !strings.Contains(all, "the owner of copy could not be set again") {
		t.Error(all)
	}
}
