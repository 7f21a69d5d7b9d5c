// Package estate is what an instance has beside its databases: certificates that protect
// databases, and the availability groups that databases have joined. There is one instance
// alone: a group's other replicas are only said to exist, and what a test writes into a
// secondary database stands for what its primary has sent.
package estate

import (
	"encoding/hex"
	"slices"
	"strings"

	"holdfast/sqlguest/lab/storage/message"
	"holdfast/sqlguest/lab/value"
)

// Certificate is one in master, with its private key. It can be taken to another instance.
type Certificate struct {
	Name       string `json:"name"`
	Thumbprint []byte `json:"thumbprint"` // 20 bytes
}

// Hex is the thumbprint as databases keep it.
func (c Certificate) Hex() string { return strings.ToUpper(hex.EncodeToString(c.Thumbprint)) }

// Roles of a replica, as role_desc has them.
const (
	Primary   = "PRIMARY"
	Secondary = "SECONDARY"
	Resolving = "RESOLVING"
)

// Member is a database's place in an availability group on this instance.
type Member struct {
	Name      string     `json:"name"` // of the group
	Group     value.GUID `json:"group"`
	Replica   value.GUID `json:"replica"`  // this instance's
	Database  value.GUID `json:"database"` // group_database_id: the same on all replicas
	Role      string     `json:"role"`
	Preferred bool       `json:"preferred"` // the group wants its backups taken here
}

// Estate is all of it. Its methods are for one caller at a time.
type Estate struct {
	Certificates []Certificate     `json:"certificates,omitempty"`
	Members      map[string]Member `json:"members,omitempty"` // by lower-case name of the database
}

// Clone is a copy that shares nothing that changes.
func (e *Estate) Clone() Estate {
	c := Estate{Certificates: slices.Clone(e.Certificates), Members: map[string]Member{}}
	for name, m := range e.Members {
		c.Members[name] = m
	}
	return c
}

// Member is a database's; false if it has joined no group.
func (e *Estate) Member(database string) (Member, bool) {
	m, is := e.Members[strings.ToLower(database)]
	return m, is
}

// Join puts a database into a group, or changes its place there.
func (e *Estate) Join(database string, m Member) {
	if e.Members == nil {
		e.Members = map[string]Member{}
	}
	e.Members[strings.ToLower(database)] = m
}

// Leave takes a database out of its group.
func (e *Estate) Leave(database string) { delete(e.Members, strings.ToLower(database)) }

// Add takes a certificate in.
func (e *Estate) Add(c Certificate) { e.Certificates = append(e.Certificates, c) }

// Drop forgets the certificates of that name.
func (e *Estate) Drop(name string) {
	e.Certificates = slices.DeleteFunc(e.Certificates, func(c Certificate) bool { return strings.EqualFold(c.Name, name) })
}

// MayDecrypt is 33111 if the certificate with that thumbprint (in hexadecimal; "" is none)
// is not here.
func (e *Estate) MayDecrypt(thumbprint string) error {
	if thumbprint == "" || slices.ContainsFunc(e.Certificates, func(c Certificate) bool { return c.Hex() == thumbprint }) {
		return nil
	}
	return message.Fail(33111, "certificate", "0x"+thumbprint)
}

// MayBackUp is 3059 for what a secondary replica does not give: fulls that are not
// copy-only, differentials, copy-only logs.
func (e *Estate) MayBackUp(database string, isLog, isDifferential, copyOnly bool) error {
	m, is := e.Member(database)
	if !is || m.Role == Primary {
		return nil
	}
	if m.Role != Secondary || isDifferential || isLog == copyOnly {
		return message.Fail(3059)
	}
	return nil
}

// MayRestore is 3104 for a database that has joined a group.
func (e *Estate) MayRestore(database string) error {
	if _, is := e.Member(database); is {
		return message.Fail(3104, database)
	}
	return nil
}
