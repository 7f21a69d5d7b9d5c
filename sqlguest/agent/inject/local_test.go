package inject_test

import (
	"testing"

	"holdfast/sqlguest/agent/inject"
	"holdfast/sqlguest/lab/machine"
)

var _ inject.Guest = (*machine.Guest)(nil)

func newLocal(t *testing.T) *machine.Guest { return newLocalAt(t, t.TempDir()) }

func newLocalAt(t *testing.T, root string) *machine.Guest {
	t.Helper()
	g, err := machine.New(root)
	must(t, err)
	t.Cleanup(g.Close)
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
