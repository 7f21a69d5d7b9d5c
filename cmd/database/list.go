package database

import (
	"context"

	"holdfast/sqlguest/decide"
	"holdfast/sqlguest/facts"
	"holdfast/sqlguest/server"
)

// Row is a database as sql databases shows it.
type Row struct {
	Server   string `json:"server"` // as it calls itself: MACHINE or MACHINE\INSTANCE
	Name     string `json:"name"`
	Model    string `json:"model"`
	State    string `json:"state"`
	Access   string `json:"access"`
	ReadOnly bool   `json:"read_only"`
	Family   string `json:"family"`
	Bytes    int64  `json:"bytes"` // of all files
	Eligible bool   `json:"eligible"`
	Rule     string `json:"rule,omitempty"`   // which rule says no
	Reason   string `json:"reason,omitempty"` // its sentence
}

// List tells of each database whether a first full backup would be taken, or why not.
func List(ctx context.Context, s server.Server, request decide.Request) ([]Row, error) {
	at, err := facts.AskInstance(ctx, s)
	if err != nil {
		return nil, err
	}
	all, err := facts.AskDatabases(ctx, s, at)
	if err != nil {
		return nil, err
	}
	rows := []Row{}
	for _, d := range all {
		request.Want = decide.Full
		said := decide.Decide(request, decide.Facts{Instance: *at, Database: d}, nil)
		row := Row{Server: at.Name, Name: d.Name, Model: d.Model, State: d.State, Access: d.Access, ReadOnly: d.ReadOnly, Family: d.Family,
			Eligible: said.Do == decide.DoFull}
		if !row.Eligible {
			row.Rule, row.Reason = string(said.Rule), said.Reason
		}
		for _, f := range d.Files {
			row.Bytes += f.Pages * 8192
		}
		rows = append(rows, row)
	}
	return rows, nil
}
