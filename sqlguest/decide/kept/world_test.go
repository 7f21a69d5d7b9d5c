package kept

import (
	"time"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/lsn"
)

// at is an LSN for people: virtual log file 1, that block.
func at(block uint32) lsn.LSN { return lsn.LSN{VLF: 1, Block: block, Slot: 1} }

// The server's zone is not UTC and not a whole hour.
var zone = time.FixedZone("", 5*3600+45*60)

// now is a Wednesday afternoon by the server's clock.
var now = time.Date(2026, 11, 18, 15, 0, 0, 0, zone)

// world is a database that has been backed up for some days: a full on Monday, a
// differential and a log today, all confirmed, nothing wrong.
type world struct {
	f    decide.Facts
	ours []chain.Backup
}

const (
	family = "FA000000-0000-0000-0000-000000000001"
	dbGUID = "DB000000-0000-0000-0000-000000000001"
	fork1  = "F0000000-0000-0000-0000-000000000001"
	fork2  = "F0000000-0000-0000-0000-000000000002"
	set1   = "5E000000-0000-0000-0000-000000000001"
)

func files() []chain.File {
	return []chain.File{
		{ID: 1, GUID: "A1", Type: 0, Name: "sales", Path: `D:\data\sales.mdf`, Pages: 1000},
		{ID: 2, GUID: "A2", Type: 1, Name: "sales_log", Path: `E:\log\sales.ldf`, Pages: 500},
	}
}

func ours(kind chain.Kind, point string, first, last uint32, started time.Time) chain.Backup {
	b := chain.Backup{
		Header: chain.Header{
			Set: "5E000000-0000-0000-0000-0000000000" + point, Kind: kind, Database: "sales", Family: family, DatabaseGUID: dbGUID,
			FirstFork: fork1, Fork: fork1, First: at(first), Last: at(last), Checkpoint: at(first),
			Started: started, Finished: started.Add(time.Minute), Bytes: 8192,
		},
		Point: point, State: chain.Confirmed, By: chain.ByRow,
		Device: "{DE000000-0000-0000-0000-0000000000" + point + "}", Stripes: 1, StreamBytes: []int64{8192}, Files: files(), SetHash: "set",
	}
	if kind == chain.Diff {
		b.Base, b.BaseLSN, b.DatabaseBackup = set1, at(100), at(100)
	}
	return b
}

func msdbRow(b chain.Backup) chain.Row {
	return chain.Row{Header: b.Header, Name: chain.SetName, User: `DOM\backup`, Machine: "SQL01", Device: b.Device, DeviceType: 7}
}

func newWorld() *world {
	monday, today := now.AddDate(0, 0, -2), now.Add(-3*time.Hour)
	w := &world{
		ours: []chain.Backup{
			ours(chain.Full, "01", 100, 110, monday),
			ours(chain.Log, "02", 100, 200, monday.Add(time.Hour)),
			ours(chain.Diff, "03", 210, 220, today),
			ours(chain.Log, "04", 200, 300, today.Add(time.Hour)),
		},
	}
	w.f.Instance = facts.Instance{Name: "SQL01", Version: "16.0.4165.4", Engine: 3, SysAdmin: true, Now: now}
	w.f.Database = facts.Database{
		ID: 5, Name: "sales", State: "ONLINE", Access: "MULTI_USER", Model: "FULL",
		GUID: dbGUID, Family: family, Fork: fork1, FirstFork: fork1, LastLog: at(300), Base: set1, BaseLSN: at(100),
		Volumes: []facts.Volume{
			{Name: `D:\`, Use: facts.UseData, Available: 50 << 30, System: "NTFS"},
			{Name: `E:\`, Use: facts.UseLog, Available: 50 << 30, System: "NTFS"},
		},
	}
	for _, f := range files() {
		file := facts.File{File: f, State: "ONLINE"}
		if f.Type == 0 {
			file.Base, file.BaseLSN = set1, at(100)
		}
		w.f.Database.Files = append(w.f.Database.Files, file)
	}
	for i, b := range w.ours {
		r := msdbRow(b)
		r.ID = int64(i + 1)
		w.f.History.Rows = append(w.f.History.Rows, r)
	}
	return w
}

func (w *world) db() *facts.Database { return &w.f.Database }

// without drops backups of ours, from the repository and from msdb.
func (w *world) without(points ...string) {
	var left []chain.Backup
	var rows []chain.Row
	for i, b := range w.ours {
		gone := false
		for _, p := range points {
			gone = gone || b.Point == p
		}
		if !gone {
			left, rows = append(left, b), append(rows, w.f.History.Rows[i])
		}
	}
	w.ours, w.f.History.Rows = left, rows
}
