package cmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/cmd/practice"
	"holdfast/sqlguest/direct"
	"holdfast/vmware/lab"
)

// scriptLab is the vCenter of one script.
type scriptLab struct {
	*lab.Lab
	sql     *practice.SQL
	entered <-chan struct{}
	release func()
	before  map[string]int // requests when transfers were last slowed
}

type labKey struct{}

func (l *scriptLab) close() {
	if l.sql != nil {
		l.sql.Close() //nolint:errcheck // it goes as a whole
	}
	if l.Lab != nil {
		l.Lab.Close()
	}
}

// labCommand works on the laboratory:
//
//	lab start                           run it, and set the variables to use it
//	lab vm NAME SIZE,… [off|linux|novss|notools]  add a VM with disks of these sizes
//	lab write NAME DISK SEED S+L…       the guest writes random data
//	lab same NAME DISK FILE             the disk's bytes are those of FILE
//	lab same NAME DISK OTHER/DISK       … or those of another VM's disk
//	lab hold METHOD, entered, release   stop the next task of a method
//	lab slow PATH DURATION              delay transfers of a path
//	lab asked 'METHOD /PATH'            wait until there was such a transfer since lab slow
//	lab full DATASTORE, clear           no room is left, and no trouble any more
//	lab vms NAME…                       exactly these VMs exist
//	lab sql                             run a SQL Server, and set the variables to use it and $SQL
//	lab exec TEXT                       run T-SQL on it
//	lab instance NAME                   one more SQL Server, whose address is $SQL_NAME
//	lab jump DURATION                   so much time passes at the first SQL Server
//	lab clock NAME                      $NAME is what its clock shows now
//	lab select ADDRESS TEXT WANT        a query's values, with spaces between, at a SQL Server
func labCommand(ts *testscript.TestScript, neg bool, args []string) {
	l := ts.Value(labKey{}).(*scriptLab)
	if len(args) == 0 || neg && args[0] != "same" {
		ts.Fatalf("usage: lab start|vm|write|same|…")
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "start":
		started, err := lab.Start(context.Background(), lab.Options{})
		ts.Check(err)
		l.Lab = started
		for name, value := range started.Env() {
			ts.Setenv(name, value)
		}
	case "vm":
		l.add(ts, args)
	case "sql":
		started, err := practice.StartSQL("")
		ts.Check(err)
		l.sql = started
		ts.Setenv("SQL", started.Address())
		ts.Setenv("HOLDFAST_SQL_USER", started.User)
		ts.Setenv("HOLDFAST_SQL_PASSWORD", started.Password)
	case "instance":
		more, err := l.sql.AddInstance(args[0])
		ts.Check(err)
		ts.Setenv("SQL_"+args[0], more.Address())
	case "jump":
		d, err := time.ParseDuration(args[0])
		ts.Check(err)
		l.sql.JumpClock(d)
	case "clock":
		ts.Setenv(args[0], l.values(ts, l.sql.Address(), "SELECT CONVERT(varchar(23), SYSDATETIME(), 126)"))
	case "select":
		if got := l.values(ts, args[0], args[1]); got != args[2] {
			ts.Fatalf("%s: %q, want %q", args[1], got, args[2])
		}
	case "exec":
		s, err := direct.Open(context.Background(), direct.Options{Address: l.sql.Address(), User: l.sql.User, Password: l.sql.Password})
		ts.Check(err)
		defer s.Close() //nolint:errcheck // a test's connection
		_, err = s.Query(context.Background(), strings.Join(args, " "))
		ts.Check(err)
	case "write":
		for _, r := range args[3:] {
			start, data := rangeData(ts, args[2], r)
			ts.Check(l.VM(args[0]).WriteDisk(int(args[1][0]-'0'), start, data))
		}
	case "same":
		l.same(ts, neg, args)
	case "hold":
		l.entered, l.release = l.Hold(args[0])
	case "entered":
		select {
		case <-l.entered:
		case <-time.After(30 * time.Second):
			ts.Fatalf("nothing called the method that is held")
		}
	case "release":
		l.release()
	case "slow":
		delay, err := time.ParseDuration(args[1])
		ts.Check(err)
		l.before = l.Counts().Requests
		l.FailHTTP(lab.HTTPFault{Path: args[0], Delay: delay, Count: -1})
	case "full":
		l.SetFreeSpace(args[0], 0)
	case "asked":
		l.asked(ts, args[0])
	case "clear":
		l.ClearFaults()
	case "vms":
		if got, want := strings.Join(l.VMs(), " "), strings.Join(args, " "); got != want {
			ts.Fatalf("there are the VMs %s, want %s", got, want)
		}
	default:
		ts.Fatalf("lab %s is unknown", verb)
	}
}

// values are what a query gives, in one line.
func (l *scriptLab) values(ts *testscript.TestScript, address, text string) string {
	s, err := direct.Open(context.Background(), direct.Options{Address: address, User: l.sql.User, Password: l.sql.Password})
	ts.Check(err)
	defer s.Close() //nolint:errcheck // a test's connection
	rows, err := s.Query(context.Background(), text)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, row := range rows.Values {
		for _, v := range row {
			all = append(all, fmt.Sprint(v))
		}
	}
	return strings.Join(all, " ")
}

// asked waits until a request of a kind has come since transfers were slowed.
func (l *scriptLab) asked(ts *testscript.TestScript, request string) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for l.Counts().Requests[request] == l.before[request] {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("no %s, but %v", request, l.Counts().Requests)
		}
	}
}

func (l *scriptLab) add(ts *testscript.TestScript, args []string) {
	spec := lab.VMSpec{
		Name: args[0], PoweredOn: true, Guest: "windows2019srv_64Guest", HardwareVersion: "vmx-19",
		ExtraConfig: map[string]string{"disk.EnableUUID": "TRUE"}, VSS: lab.ApplicationVSS,
	}
	for n, size := range strings.Split(args[1], ",") {
		d := lab.DiskSpec{Bytes: scriptSize(ts, size)}
		if n == 1 {
			d.Datastore = lab.Datastore2
		}
		spec.Disks = append(spec.Disks, d)
	}
	for _, word := range args[2:] {
		switch word {
		case "off":
			spec.PoweredOn = false
		case "linux":
			spec.Guest, spec.VSS = "otherGuest64", lab.NoVSS
		case "novss":
			spec.VSS = lab.NoVSS
		case "notools":
			spec.Tools = lab.ToolsNotInstalled
		}
	}
	_, err := l.AddVM(spec)
	ts.Check(err)
}

func (l *scriptLab) same(ts *testscript.TestScript, neg bool, args []string) {
	got, err := l.VM(args[0]).DiskSHA256(int(args[1][0] - '0'))
	ts.Check(err)
	var want [32]byte
	if name, disk, ok := strings.Cut(args[2], "/"); ok && l.VM(name) != nil {
		want, err = l.VM(name).DiskSHA256(int(disk[0] - '0'))
		ts.Check(err)
	} else {
		want = sha256.Sum256([]byte(ts.ReadFile(args[2])))
	}
	if (got == want) == neg {
		ts.Fatalf("disk %s of %s is %s, and that of %[5]s is %[4]s", args[1], args[0], hex.EncodeToString(got[:4]), hex.EncodeToString(want[:4]), args[2])
	}
}
