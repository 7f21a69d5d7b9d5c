package cmd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// made is a program that tests share, built once; tidy removes it.
type made struct {
	sync.Once
	dir, path string
	err       error
}

var (
	madeProgram made // as an operator runs it
	madeAgent   made // as it goes into guests of this system
)

// theProgram is the path of the program, built for tests.
func theProgram(t *testing.T) string { return madeProgram.of(t, "holdfast") }

// theAgent is the path of the agent's program for this system.
func theAgent(t *testing.T) string { return madeAgent.of(t, "holdfast/sqlguest/agent/guest") }

func (m *made) of(t *testing.T, pkg string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		if os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
			t.Fatal(err)
		}
		t.Skip("needs the go command to build the program: ", err)
	}
	m.Do(func() {
		if m.dir, m.err = os.MkdirTemp("", "holdfast-made-"); m.err != nil {
			return
		}
		m.path = filepath.Join(m.dir, filepath.Base(pkg))
		if text, err := exec.Command("go", "build", "-buildvcs=false", "-o", m.path, pkg).CombinedOutput(); err != nil {
			m.err = errors.New(string(text))
		}
	})
	if m.err != nil {
		t.Fatal(m.err)
	}
	return m.path
}

// tidy removes what tests have shared, when all have run.
type tidy struct{ *testing.M }

func (m tidy) Run() int {
	code := m.M.Run()
	for _, dir := range []string{madeProgram.dir, madeAgent.dir} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	return code
}
