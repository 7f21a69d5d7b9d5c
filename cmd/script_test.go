package cmd

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
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
	testscript.Main(tidy{m}, map[string]func(){
		"holdfast": func() {
			os.Exit(Main(os.Args[1:], Std{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}))
		},
	})
}

// TestScripts runs the command lines of testdata/script as an operator would
// type them. testscript gives them an environment of their own; the home
// directory is theirs as well. What scripts have beyond testscript's commands:
//
//	exits CODE COMMAND …             run it and compare the exit code
//	json, let                        fields of JSON output (script_json_test.go)
//	make, alter, damage, same, part  files (script_files_test.go)
//	tree, cptree, lose               the files of a directory (script_tree_test.go)
//	start, await, signal, ended, into, killrounds, uselab           processes in the background (script_process_test.go)
//	lab …                            a vCenter in this process (script_lab_test.go)
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
			lab, processes := &scriptLab{}, &scriptProcesses{}
			env.Values[labKey{}], env.Values[processesKey{}] = lab, processes
			env.Defer(func() { processes.close(); lab.close() })
			return nil
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "json": scriptJSON, "let": scriptLet,
			"make": makeFile, "alter": alterFile, "damage": damageFile, "same": sameFiles, "part": samePart, "sparse": sparseFile, "mode": fileMode, "only": onlyFiles, "prefix": prefixOf,
			"start": startProcess, "signal": signalProcess, "ended": endedProcess, "await": awaitOutput, "into": runInto, "uselab": useLab, "killrounds": killRounds,
			"lab": labCommand, "tree": listTree, "cptree": copyTree, "lose": loseFiles,
		},
	})
}

// condition answers [demand:PROGRAM]: whether the program is there. Where the
// real parts are demanded its absence is a failure instead of a skip.
func condition(cond string) (bool, error) {
	program, ok := strings.CutPrefix(cond, "demand:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("HOLDFAST_DEMAND_PARTS") == "1" {
		return false, fmt.Errorf("%s is demanded: %w", program, err)
	}
	return err == nil, nil
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
