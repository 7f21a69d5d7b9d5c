package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"
)

const bucket = "holdfast-test"

// TestPolicies: what each role may do, and that no more is printed.
func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		role Role
		lock bool
		want []string
	}{
		{RoleRestore, true, []string{"s3:GetObject", "s3:GetObjectVersion"}},
		{RoleBackup, false, []string{"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"}},
		{RoleBackup, true, []string{"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:PutObjectRetention"}},
		{RoleAdmin, false, []string{"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"}},
		{RoleAdmin, true, []string{"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention", "s3:PutObjectRetention"}},
	} {
		text, err := JSON(c.role, bucket, "site/one", c.lock)
		var policy struct {
			Version   string
			Statement []statement
		}
		if err == nil {
			err = json.Unmarshal(text, &policy)
		}
		if err != nil || policy.Version != "2012-10-17" || len(policy.Statement) != 3 {
			t.Fatalf("%s: %v\n%s", c.role, err, text)
		}
		objects, whole := policy.Statement[2], policy.Statement[0]
		if asks := slices.Contains(whole.Action, "s3:GetBucketObjectLockConfiguration"); asks != (c.role == RoleAdmin && c.lock) {
			t.Errorf("%s asks whether the bucket locks: %v", c.role, asks)
		}
		if !slices.Equal(objects.Action, c.want) || objects.Resource[0] != "arn:aws:s3:::"+bucket+"/site/one/*" {
			t.Errorf("%s: %+v", c.role, objects)
		}
		if got := policy.Statement[1].Condition["StringLike"]["s3:prefix"]; !slices.Equal(got, []string{"site/one/*"}) {
			t.Errorf("%s: listing may see %q", c.role, got)
		}
		if c.role != RoleAdmin && bytes.Contains(text, []byte("Delete")) || bytes.Contains(text, []byte("Bypass")) {
			t.Errorf("%s may do too much:\n%s", c.role, text)
		}
	}
	if _, err := JSON("root", bucket, "", false); !errors.Is(err, ErrRole) {
		t.Errorf("unknown role: %v", err)
	}
	if _, err := JSON(RoleBackup, "", "", false); !errors.Is(err, ErrBucket) {
		t.Errorf("no bucket: %v", err)
	}
}
