package runlock

import "testing"

func makePipe(t *testing.T, _ string) { t.Skip("no pipes with a path in a directory here") }
