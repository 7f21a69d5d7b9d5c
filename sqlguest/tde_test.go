package sqlguest_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/estate"
	"holdfast/sqlguest/plan"
	"holdfast/sqlguest/replay"
	"holdfast/sqlguest/server"
)

// another is a second SQL Server, and a login at it.
func (w *world) another() (*lab.Lab, *direct.Server) {
	w.t.Helper()
	hub := bridge.NewHub(bridge.Options{})
	l, err := lab.Start(lab.Options{Name: "OTHER", Seed: 77, Devices: hub, Now: func() time.Time { return w.now }, Logins: []lab.Login{{Name: "sa", Password: "x", Sysadmin: true}}})
	w.must(err)
	w.t.Cleanup(func() { w.must(l.Close()) })
	sql, err := direct.Open(w.t.Context(), direct.Options{Address: l.Address(), User: "sa", Password: "x", OpenSet: hub.OpenSet})
	w.must(err)
	w.t.Cleanup(func() { w.must(sql.Close()) })
	return l, sql
}

// restore is a restore of sales to the latest moment.
func (w *world) restore(on server.Server, o plan.Options) *replay.Run {
	w.t.Helper()
	id := w.identities()[0]
	r := &replay.Run{
		Server: on, Streams: &replay.Repository{Repo: w.repo, Identity: id}, Backups: w.backups("sales"), Options: o,
		Keep: w.job(decide.Auto, w.sql).Keep, Identity: id, Place: "lab", Label: "sql/LAB", Device: w.job(decide.Auto, w.sql).Device,
	}
	if on != w.sql {
		r.Place, r.Label = "other", "sql/OTHER"
	}
	return r
}

func (w *world) certificate(name string) estate.Certificate {
	w.t.Helper()
	c, err := w.lab.MakeCertificate(name)
	w.must(err)
	w.must(w.lab.Encrypt("sales", c))
	return c
}

func bring(t *testing.T, l *lab.Lab, c estate.Certificate) {
	t.Helper()
	if err := l.Server().ChangeEstate(func(e *estate.Estate) { e.Add(c) }); err != nil {
		t.Fatal(err)
	}
}

// TestQ17EncryptedDatabaseNeedsItsCertificate: the backup says so; a server without the
// certificate is left alone, and its name and thumbprint are told; with it the restore
// works.
func TestQ17EncryptedDatabaseNeedsItsCertificate(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	c := w.certificate("payroll")
	steps, said := w.run(decide.Auto, "sales")
	w.want(said, "sales full M12", "sales log S-log")
	if !slices.ContainsFunc(steps[0].Decision.Warnings, func(x decide.Warning) bool {
		return x.Rule == decide.RuleTDE && strings.Contains(x.Text, "certificate payroll with thumbprint "+c.Hex())
	}) {
		t.Errorf("warnings %+v", steps[0].Decision.Warnings)
	}
	l, sql := w.another()
	r := w.restore(sql, plan.Options{})
	_, err := r.Do(t.Context())
	var refused *replay.Refused
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "(rule Q17)") || !strings.Contains(err.Error(), "[payroll] with the thumbprint "+c.Hex()) || !strings.Contains(refused.Hint(), "CREATE CERTIFICATE") {
		t.Errorf("%v", err)
	}
	if _, err := l.Server().Database("sales"); err == nil {
		t.Error("a database was made")
	}
	bring(t, l, c)
	_, err = r.Do(t.Context())
	w.must(err)
	rows, err := sql.Query(t.Context(), "SELECT d.is_encrypted, c.name, (SELECT COUNT(*) FROM sales.dbo.customers) FROM sys.databases d JOIN sys.dm_database_encryption_keys k ON k.database_id = d.database_id JOIN master.sys.certificates c ON c.thumbprint = k.encryptor_thumbprint WHERE d.name = 'sales'")
	w.must(err)
	if len(rows.Values) != 1 || rows.Values[0][0] != true || rows.Values[0][1] != "payroll" || rows.Values[0][2] != int64(3) {
		t.Errorf("%v", rows.Values)
	}
}

// TestQ17OverADatabaseItStaysOpen: refused before the tail is taken or anybody thrown out.
func TestQ17OverADatabaseItStaysOpen(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	w.certificate("payroll")
	w.run(decide.Auto, "sales")
	w.must(w.lab.Server().ChangeEstate(func(e *estate.Estate) { e.Drop("payroll") }))
	before := w.lastLog("sales")
	if _, err := w.restore(w.sql, plan.Options{Replace: true, Kick: true}).Do(t.Context()); err == nil || !strings.Contains(err.Error(), "(rule Q17)") {
		t.Errorf("%v", err)
	}
	rows, err := w.sql.Query(t.Context(), "SELECT state_desc, user_access_desc FROM sys.databases WHERE name = 'sales'")
	w.must(err)
	if rows.Values[0][0] != "ONLINE" || rows.Values[0][1] != "MULTI_USER" || w.lastLog("sales") != before {
		t.Errorf("%v, log from %s", rows.Values, w.lastLog("sales"))
	}
}

// TestQ17EachCertificateOfTheChainIsNeeded: the full was made under one certificate, the
// log under the next; and a key stays needed when encryption is off, until it is dropped.
func TestQ17EachCertificateOfTheChainIsNeeded(t *testing.T) {
	w := newWorld(t, bridge.Faults{})
	old := w.certificate("y2025")
	w.run(decide.Full, "sales")
	young := w.certificate("y2026")
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (100, N'new')")
	w.must(w.lab.Decrypt("sales", false))
	w.run(decide.Log, "sales")
	l, sql := w.another()
	refusedFor := func(names ...string) {
		t.Helper()
		_, err := w.restore(sql, plan.Options{}).Do(t.Context())
		for _, name := range []string{"y2025", "y2026"} {
			if err == nil || strings.Contains(err.Error(), name) != slices.Contains(names, name) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	refusedFor("y2025", "y2026")
	bring(t, l, young)
	refusedFor("y2025")
	bring(t, l, old)
	_, err := w.restore(sql, plan.Options{}).Do(t.Context())
	w.must(err)

	// The tail that a restore takes needs the youngest.
	w.exec("INSERT INTO sales.dbo.customers (id, name) VALUES (101, N'tail')")
	last := w.certificate("y2027")
	_, err = w.restore(w.sql, plan.Options{Replace: true, Kick: true}).Do(t.Context())
	w.must(err)
	all := w.backups("sales")
	if tail := all[len(all)-1]; !tail.Tail || tail.Protector != last.Hex() || tail.Certificate != "y2027" {
		t.Errorf("tail %+v", tail)
	}

	w.must(w.lab.Decrypt("sales", true))
	w.run(decide.Full, "sales")
	_, sql = w.another()
	_, err = w.restore(sql, plan.Options{}).Do(t.Context())
	w.must(err)
}
