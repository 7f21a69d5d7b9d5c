package cmd

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary play other programs when it is called by
// their names: holdfast, which is the real Main, and a password command.
func TestMain(m *testing.M) {
	if os.Getenv(childKey) != "" {
		child()
		return
	}
	testscript.Main(m, map[string]func(){
		"holdfast": func() {
			os.Exit(Main(os.Args[1:], Std{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}))
		},
	})
}

// TestScripts runs the command lines of testdata/script as an operator would
// type them. testscript gives them an environment of their own; the home
// directory is theirs as well.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", env.WorkDir+"/xdg")
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/cache")
			env.Setenv("LocalAppData", env.WorkDir+"/local")
			env.Setenv("ProgramData", env.WorkDir+"/programdata")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command and checks its exit code: exits 12 holdfast …
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND …")
	}
	want := args[0]
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = err.Error()
		if text, ok := cutExitStatus(got); ok {
			got = text
		}
	}
	if got != want {
		ts.Fatalf("%v ended with %s, want %s", args[1:], got, want)
	}
}

func cutExitStatus(text string) (string, bool) {
	const prefix = "exit status "
	if len(text) > len(prefix) && text[:len(prefix)] == prefix {
		return text[len(prefix):], true
	}
	return "", false
}
