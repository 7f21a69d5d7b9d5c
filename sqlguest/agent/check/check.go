// Package check looks at a SQL Server and its machine before anything is begun there.
// Each look is a line: what was looked at, how it stands, and what helps if it is not
// well. Looks change nothing.
//
// Machine looks at the machine that it runs on, so the agent does that in a guest; SQL
// asks a SQL Server, from wherever. A line forbids nothing by itself: who asks knows
// what is about to be done.
package check

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"

	"holdfast/sqlguest/vdi"
)

// Status is how a line stands.
type Status string

// Failed is what makes a backup fail or be refused, Warning what one should know.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failed  Status = "failed"
)

// Line is one look.
type Line struct {
	ID     string `json:"id"` // stable, begins with the rule's id where there is one
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`           // a sentence without a full stop
	Remedy string `json:"remedy,omitempty"` // what helps, if it is not OK
}

// When makes a line that is OK if isWell, and else stands as otherwise says.
func (l Line) When(isWell bool, otherwise Status) Line {
	l.Status = otherwise
	if isWell {
		l.Status, l.Remedy = OK, ""
	}
	return l
}

// MachineOptions shape the looks at a machine. The zero value is a product's usual ones.
type MachineOptions struct {
	// Port is that of another product's agent; 0 is 3545.
	Port int
}

// Machine takes every look at this machine that its system has.
func Machine(ctx context.Context, o MachineOptions) []Line {
	if o.Port == 0 {
		o.Port = 3545
	}
	admin := Line{ID: "Q5-elevated", Name: "administrator's rights", Detail: "this program runs with the rights of an administrator",
		Remedy: "log in to the guest as its built-in Administrator, or set LocalAccountTokenFilterPolicy to 1 in it: User Account Control filters the token"}
	isElevated := elevated()
	if !isElevated {
		admin.Detail = "this program runs without the rights of an administrator: its token is filtered, or the user is none"
	}
	lines := []Line{
		{ID: "system", Name: "system", Status: OK, Detail: runtime.GOOS + " on " + runtime.GOARCH},
		admin.When(isElevated, Failed), devices(), port(o.Port),
	}
	return append(lines, system(ctx)...)
}

// devices looks for the Virtual Device Interface.
func devices() Line {
	l := Line{ID: "vdi", Name: "virtual devices", Detail: "SQL Server's Virtual Device Interface is installed",
		Remedy: "repair SQL Server's installation; until then backups go through files, which need room beside the SQL Server"}
	err := vdi.Available()
	switch {
	case runtime.GOOS != "windows":
		l.Detail = "none on " + runtime.GOOS + ": backups go through files, which need room beside the SQL Server"
	case err != nil:
		l.Detail = err.Error()
	}
	return l.When(err == nil || runtime.GOOS != "windows", Warning)
}

// port looks whether an agent of another product is there.
func port(number int) Line {
	line := Line{ID: "Q1-port-other", Name: "port " + strconv.Itoa(number), Detail: "free: no other product's agent listens there",
		Remedy: "one product at a time should look after a SQL Server: their log backups break each other's chains"}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(number)))
	if err != nil {
		line.Detail = fmt.Sprintf("taken, as another backup product's agent takes it: %v", err)
		return line.When(false, Warning)
	}
	_ = l.Close()
	return line.When(true, Warning)
}
