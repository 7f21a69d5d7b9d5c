// Package policy writes down what credentials for a repository in a bucket must be
// allowed, and no more: one policy a role, in the language of AWS IAM. It is kept
// true by a test that runs the program's commands against a server that enforces
// what is printed.
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Role is what a pair of keys is for.
type Role string

// Roles, as the operator writes them.
const (
	RoleBackup  Role = "backup"  // reads and adds; cannot delete, nor remove a version
	RoleRestore Role = "restore" // reads
	RoleAdmin   Role = "admin"   // also prunes and prolongs locks; cannot break one
)

// ErrRole: there is no such role.
var ErrRole = errors.New("no such role (backup, restore, admin)")

// ErrBucket: no bucket was named.
var ErrBucket = errors.New("no bucket")

// statement is one rule of a policy, in the language of AWS IAM (version
// 2012-10-17), which other servers read too.
type statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// JSON is the least that a role needs in a bucket, below a prefix ("" for all of
// it), as an IAM policy in indented JSON. Where objects are locked, backup may also
// set retention as it writes, which a plain s3:PutObject does not include; nobody
// gets to bypass one. Restore and backup see versions, since the oldest of a name
// is the object. An overwrite cannot be forbidden to who may put: a versioned
// bucket makes it harmless. Errors: ErrRole, ErrBucket.
func JSON(role Role, bucket, prefix string, locked bool) ([]byte, error) {
	if bucket == "" {
		return nil, fmt.Errorf("make policy: %w", ErrBucket)
	}
	where := "arn:aws:s3:::" + bucket + "/"
	if prefix != "" {
		where += prefix + "/"
	}
	objects := []string{"s3:GetObject", "s3:GetObjectVersion"}
	switch role {
	case RoleRestore:
	case RoleBackup:
		objects = append(objects, "s3:PutObject")
		if locked {
			objects = append(objects, "s3:PutObjectRetention")
		}
	case RoleAdmin:
		objects = append(objects, "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion")
		if locked {
			objects = append(objects, "s3:GetObjectRetention", "s3:PutObjectRetention")
		}
	default:
		return nil, fmt.Errorf("make policy %q: %w", role, ErrRole)
	}
	listing := statement{
		Sid: "List", Effect: "Allow", Action: []string{"s3:ListBucket", "s3:ListBucketVersions"}, Resource: []string{"arn:aws:s3:::" + bucket},
	}
	if prefix != "" {
		listing.Condition = map[string]map[string][]string{"StringLike": {"s3:prefix": {prefix + "/*"}}}
	}
	whole := []string{"s3:GetBucketLocation", "s3:GetBucketVersioning"}
	if role == RoleAdmin && locked {
		whole = append(whole, "s3:GetBucketObjectLockConfiguration") // asked once, by init
	}
	policy := struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{
		{Sid: "Bucket", Effect: "Allow", Action: whole, Resource: []string{"arn:aws:s3:::" + bucket}},
		listing,
		{Sid: "Objects", Effect: "Allow", Action: objects, Resource: []string{where + "*"}},
	}}
	text, err := json.MarshalIndent(policy, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make policy: %w", err)
	}
	return append(text, '\n'), nil
}
