package cmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/cmd/secret"
	"holdfast/repo/seal"
)

// ask runs loadSecret in a real run and returns what it gave.
func ask(std Std, kind secret.Kind, twice bool, args ...string) (string, outcome) {
	var got []byte
	o := try(std, probe(func(ctx context.Context, a *app) (err error) {
		if twice {
			got, err = a.secrets().LoadNew(ctx, kind)
		} else {
			got, err = a.loadSecret(ctx, kind)
		}
		return err
	}), append([]string{"probe"}, args...)...)
	return string(got), o
}

func TestEveryWayToGiveASecret(t *testing.T) {
	file := write(t, "pw", "from a file\r\n")
	env := func(entries ...string) Std { return Std{Environ: append(entries, "PATH="+os.Getenv("PATH"))} }
	for _, c := range []struct {
		std  Std
		kind secret.Kind
		args []string
		want string
	}{
		{env("HOLDFAST_PASSWORD= blanks stay "), secret.Repository, nil, " blanks stay "},
		{env("HOLDFAST_PASSWORD_FILE=" + file), secret.Repository, nil, "from a file"},
		{env(), secret.Repository, []string{"--password-file", file}, "from a file"},
		{Std{In: strings.NewReader("typed\n")}, secret.Repository, []string{"--password-file", "-"}, "typed"},
		{env(), secret.VCenter, []string{"--config", write(t, "c.yaml", "profiles: {default: {vcenter: {password: '0123'}}}")}, "0123"},
		{env("GOVC_URL=https://u:in-url@vc"), secret.VCenter, nil, "in-url"},
		{env("HOLDFAST_GUEST_PASSWORD_FILE=" + file), secret.Guest, nil, "from a file"},
		{env("HOLDFAST_SQL_PASSWORD=s"), secret.SQL, nil, "s"},
		{env("HOLDFAST_FROM_PASSWORD=f"), secret.From, nil, "f"},
	} {
		if got, o := ask(c.std, c.kind, false, c.args...); got != c.want || o.code != 0 {
			t.Errorf("%v %v: %q, %+v", c.std.Environ, c.args, got, o)
		}
	}
}

// TestMain's children: this test binary plays the password command.
const (
	childKey  = "CMD_TEST_CHILD"
	recordKey = "CMD_TEST_RECORD" // file to which its environment goes
	answerKey = "CMD_TEST_ANSWER" // file with what it prints
)

func child() {
	switch os.Getenv(childKey) {
	case "environment":
		for _, entry := range os.Environ() {
			if strings.Contains(entry, "canary") {
				fmt.Printf("leaked-%d ", len(entry))
			}
		}
		fmt.Println("clean:" + strings.Join(os.Args[1:], "|"))
	case "record":
		answer, err := os.ReadFile(os.Getenv(answerKey))
		if err == nil {
			err = os.WriteFile(os.Getenv(recordKey), []byte(strings.Join(os.Environ(), "\n")), 0o600)
		}
		if err != nil {
			os.Exit(5)
		}
		os.Stdout.Write(answer)
	case "fail":
		fmt.Println("canary-on-stdout")
		os.Exit(4)
	}
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func TestPasswordCommandGetsNoPasswordsOfOurs(t *testing.T) {
	std := Std{Environ: []string{childKey + "=environment", "GOVC_PASSWORD=canary1", "GOVC_URL=https://u:canary2@vc", "HOLDFAST_SQL_PASSWORD=canary3", "HOLDFAST_VCENTER_URL=https://u:canary4@vc"}}
	got, o := ask(std, secret.Repository, false, "--password-command", "'"+self(t)+`' a "b c"`)
	if got != "clean:a|b c" || o.code != 0 {
		t.Errorf("got %q, %+v", got, o)
	}
}

func TestFailingPasswordCommandTellsNothingSecret(t *testing.T) {
	_, o := ask(Std{Environ: []string{childKey + "=fail"}}, secret.Repository, false, "--password-command", "'"+self(t)+"' --token canary5")
	if o.code != 1 || !strings.Contains(o.err, "exit status 4") || strings.Contains(o.err, "canary") {
		t.Errorf("%+v", o)
	}
	_, o = ask(Std{}, secret.Repository, false, "--password-command", "no-such-program-here canary6")
	if o.code != 1 || !strings.Contains(o.err, "no-such-program-here") || strings.Contains(o.err, "canary") {
		t.Errorf("%+v", o)
	}
	_, o = ask(Std{}, secret.Repository, false, "--password-command", "echo 'canary7")
	if o.code != 1 || !strings.Contains(o.err, "split") || strings.Contains(o.err, "canary") {
		t.Errorf("%+v", o)
	}
}

func TestSecretsThatCannotBeRight(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "only a newline": "\n", "two lines": "canary\nmore\n", "endless": strings.Repeat("canary", 20000), "NUL": "can\x00ary"} {
		_, o := ask(Std{}, secret.Repository, false, "--password-file", write(t, "pw", text))
		if o.code != 1 || strings.Contains(o.err, "canary") {
			t.Errorf("%s: %+v", name, o)
		}
	}
	_, o := ask(Std{}, secret.Repository, false, "--password-file", filepath.Join(t.TempDir(), "none"))
	if o.code != 1 || !strings.Contains(o.err, "none") {
		t.Errorf("missing file: %+v", o)
	}
}

func TestWithoutTerminalNobodyIsAsked(t *testing.T) {
	for kind, hint := range map[secret.Kind]string{secret.Repository: "HOLDFAST_PASSWORD, --password-file", secret.VCenter: "HOLDFAST_VCENTER_PASSWORD_FILE"} {
		_, o := ask(Std{In: strings.NewReader("must not be read\n")}, kind, false)
		if o.code != 1 || !strings.Contains(o.err, "no terminal to ask on") || !strings.Contains(o.err, hint) {
			t.Errorf("%s: %+v", kind, o)
		}
	}
}

func TestPromptAsksTwiceForANewPassword(t *testing.T) {
	answers := func(list ...string) Std {
		return Std{Prompt: func(context.Context, string) ([]byte, error) {
			if len(list) == 0 {
				return nil, errors.New("asked too often")
			}
			next := list[0]
			list = list[1:]
			return []byte(next), nil
		}}
	}
	if got, o := ask(answers("pw", "pw"), secret.Repository, true); got != "pw" || o.code != 0 {
		t.Errorf("%q %+v", got, o)
	}
	if got, o := ask(answers("pw"), secret.Repository, false); got != "pw" || o.code != 0 {
		t.Errorf("%q %+v", got, o)
	}
	if _, o := ask(answers("canary8", "canary9"), secret.Repository, true); o.code != 1 || !strings.Contains(o.err, "differ") || strings.Contains(o.err, "canary") {
		t.Errorf("%+v", o)
	}
	if _, o := ask(answers(""), secret.Repository, false); o.code != 1 {
		t.Errorf("empty: %+v", o)
	}
}

func TestKeyFileReadableByOthersIsWarnedOf(t *testing.T) {
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "key", string(text))
	open := func() outcome {
		return try(Std{}, probe(func(ctx context.Context, a *app) error {
			key, err := a.secrets().RepositoryKey(ctx, secret.Repository)
			if err == nil && !key.IsKeyFile() {
				err = errors.New("not a key file's key")
			}
			return err
		}), "probe", "--key-file", file)
	}
	if o := open(); o.code != 0 || o.err != "" {
		t.Errorf("%+v", o)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if o := open(); o.code != 0 || !strings.Contains(o.err, "chmod 600") {
		t.Errorf("%+v", o)
	}
	file = write(t, "key", "holdfast-key-1 canary\n")
	if o := open(); o.code != 12 || strings.Contains(o.err, "canary") {
		t.Errorf("%+v", o)
	}
}

func TestPasswordOpensWhereNoKeyFileIsGiven(t *testing.T) {
	o := try(Std{Environ: []string{"HOLDFAST_PASSWORD=x"}}, probe(func(ctx context.Context, a *app) error {
		key, err := a.secrets().RepositoryKey(ctx, secret.Repository)
		if err == nil && (key.IsZero() || key.IsKeyFile()) {
			err = errors.New("not a password")
		}
		return err
	}), "probe")
	if o.code != 0 {
		t.Errorf("%+v", o)
	}
}

// TestCanarySecretsNeverShow plants a secret in every place that may hold one
// and looks for it in all that failing and passing commands leave behind.
func TestCanarySecretsNeverShow(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, text string) string {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	config := put("config.yaml", "profiles:\n  default:\n    vcenter: {password: canary-profile-vcenter}\n    s3: {secret-access-key: canary-profile-s3}\n")
	broken := put("broken.yaml", "profiles:\n  default:\n    password: canary-broken\n   x: y\n")
	env := []string{"PATH=" + os.Getenv("PATH"), "HOLDFAST_PASSWORD=canary-repository", "HOLDFAST_GUEST_PASSWORD=canary-guest", "HOLDFAST_SQL_PASSWORD_COMMAND=echo canary-command",
		"GOVC_URL=https://root:canary-govc@vc.example.com", "AWS_SESSION_TOKEN=canary-token", "HOLDFAST_REPOSITORY=s3:https://key:canary-url@127.0.0.1/b",
		"HOLDFAST_PING_URL=http://127.0.0.1:1/canary-ping"}
	leak := func(a *app) *cobra.Command {
		c := probe(func(ctx context.Context, a *app) error {
			for _, kind := range []secret.Kind{secret.Repository, secret.Guest, secret.SQL, secret.VCenter} {
				if _, err := a.loadSecret(ctx, kind); err != nil {
					return err
				}
			}
			// A library that knows no manners.
			a.log.Info("login", "password", "canary-attr", "url", "https://u:canary-repository@x")
			a.ui.Note("opening with canary-repository")
			a.ui.Warn("canary-guest was refused")
			a.ui.Problem("vm/web01", errors.New("canary-command is wrong"))
			return errors.New("login as root with canary-govc and canary-profile-s3")
		})(a)
		return c
	}
	var everything bytes.Buffer
	logs := 0
	for _, args := range [][]string{
		{"config", "show", "--origin"}, {"config", "show", "--json"}, {"version"}, {"version", "extra"}, {"probe"}, {"probe", "--json"}, {"probe", "-v"}, {"nonsense"},
		{"--pasword=canary-flag", "version"}, {"-pcanary-short", "version"}, {"version", "--limit-upload", "x"},
		{"version", "--config", broken}, {"version", "--profile", "none"},
		{"init", "-r", path("repository")}, {"points", "-r", path("repository"), "--json"}, {"points", "-r", path("repository"), "-v", "--password-file", put("wrong", "canary-wrong\n")},
		{"points", "-r", path("repository"), "--key-file", path("wrong")}, {"key", "list", "-r", path("repository")}, {"points"}, {"points", "--json"},
	} {
		if args[len(args)-1] != broken {
			args = append(args, "--config", config)
		}
		logs++
		logFile := path(fmt.Sprintf("log%d", logs))
		o := try(Std{Environ: env}, leak, append(args, "--log-file", logFile, "--metrics-textfile", path("metrics"))...)
		fmt.Fprintln(&everything, o.code, o.out, o.err)
		for _, left := range []string{logFile, path("metrics")} {
			if data, err := os.ReadFile(left); err == nil {
				everything.Write(data)
			}
		}
	}
	if !strings.Contains(everything.String(), "login as root with ***") {
		t.Errorf("the leaking command did not run:\n%s", everything.String())
	}
	if !strings.Contains(everything.String(), "wrong password") {
		t.Errorf("the wrong password was not tried:\n%s", everything.String())
	}
	for line := range strings.Lines(everything.String()) {
		if strings.Contains(line, "canary") {
			t.Errorf("a secret shows: %s", line)
		}
	}
}

func TestCancelledRunEndsThePasswordCommand(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs sleep")
	}
	if _, err := exec.LookPath("sleep"); err != nil {
		t.Skip("there is no sleep command")
	}
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	_, o := ask(Std{Signals: signals, Environ: []string{"PATH=" + os.Getenv("PATH")}}, secret.Repository, false, "--password-command", "sleep 300")
	if o.code != 130 {
		t.Errorf("%+v", o)
	}
}
