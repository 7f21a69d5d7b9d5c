package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/cmd/settings"
)

// resolve loads the settings as a run with these flags and variables would.
func resolve(t *testing.T, env []string, flags ...string) (*settings.Settings, error) {
	t.Helper()
	root := wholeTree()
	c, _, err := root.Find([]string{"version"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	return settings.Load(c, env)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const orderProfile = "profiles:\n  p:\n    repo: /profile\n    log-format: json\n"

func TestOrderIsFlagVariableProfileDefault(t *testing.T) {
	file := write(t, "config.yaml", orderProfile)
	env := []string{"HOLDFAST_CONFIG=" + file, "HOLDFAST_PROFILE=p"}
	for _, c := range []struct {
		env   []string
		flags []string
		want  string
		from  string
	}{
		{append(env, "HOLDFAST_REPOSITORY=/variable"), []string{"-r", "/flag"}, "/flag", "flag --repo"},
		{append(env, "HOLDFAST_REPOSITORY=/variable"), nil, "/variable", "variable HOLDFAST_REPOSITORY"},
		{append(env, "HOLDFAST_REPOSITORY="), nil, "/profile", "profile " + file + ":p"},
		{env, nil, "/profile", "profile " + file + ":p"},
	} {
		s, err := resolve(t, c.env, c.flags...)
		if err != nil {
			t.Fatal(err)
		}
		if got, from := s.Text("repo"), s.Origin("repo").String(); got != c.want || from != c.from {
			t.Errorf("got %q from %q, want %q from %q", got, from, c.want, c.from)
		}
	}
	s, err := resolve(t, nil)
	if err != nil || s.Text("log-format") != "text" || s.Origin("log-format").String() != "default" {
		t.Errorf("default: %v %q", err, s.Text("log-format"))
	}
	if _, err := s.Repository(); err != settings.ErrRepositoryMissing {
		t.Errorf("no repository: %v", err)
	}
}

func TestInvalidValuesAreErrorsWhereverTheyStand(t *testing.T) {
	bad := map[string]string{"limit-upload": "-1", "limit-download": "5M", "log-format": "xml", "ping-url": "ftp://x", "json": "maybe", "no-progress": "yes please"}
	for name, text := range bad {
		variable := settings.Variable(name)
		if _, err := resolve(t, []string{variable + "=" + text}); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("variable %s=%s: %v", variable, text, err)
		}
		file := write(t, "c.yaml", fmt.Sprintf("profiles: {default: {%s: %q}}", name, text))
		if _, err := resolve(t, nil, "--config", file); err == nil || !strings.Contains(err.Error(), file+":default") {
			t.Errorf("profile %s=%s: %v", name, text, err)
		}
		got := try(Std{}, nil, "version", "--"+name+"="+text)
		if got.code != 1 || !strings.Contains(got.err, name) {
			t.Errorf("flag --%s=%s: %+v", name, text, got)
		}
	}
	if got := try(Std{}, nil, "version", "-r", ""); got.code != 1 || !strings.Contains(got.err, "--repo is empty") {
		t.Errorf("empty flag: %+v", got)
	}
}

func TestTwoFormsOfOneSecretAtOneLevelAreAnError(t *testing.T) {
	both := []struct {
		env, flags []string
	}{
		{[]string{"HOLDFAST_PASSWORD=x", "HOLDFAST_PASSWORD_FILE=f"}, nil},
		{[]string{"HOLDFAST_PASSWORD=x", "HOLDFAST_KEY_FILE=f"}, nil},
		{nil, []string{"--password-file", "f", "--password-command", "c"}},
		{[]string{"HOLDFAST_VCENTER_PASSWORD=x", "HOLDFAST_VCENTER_PASSWORD_COMMAND=c"}, nil},
		{[]string{"HOLDFAST_FROM_PASSWORD=x", "HOLDFAST_FROM_KEY_FILE=c"}, nil},
		{[]string{"HOLDFAST_REPOSITORY=x", "HOLDFAST_REPOSITORY_FILE=c"}, nil},
		{nil, []string{"--config", write(t, "c.toml", "[profiles.default]\npassword-file='f'\nkey-file='k'\n")}},
	}
	for _, c := range both {
		if _, err := resolve(t, c.env, c.flags...); err == nil || !strings.Contains(err.Error(), "contradict each other") {
			t.Errorf("%v %v: %v", c.env, c.flags, err)
		}
	}
}

func TestStrongerLevelReplacesTheOtherForms(t *testing.T) {
	s, err := resolve(t, []string{"HOLDFAST_PASSWORD=x", "HOLDFAST_VCENTER_PASSWORD_FILE=f", "GOVC_PASSWORD=g"}, "--key-file", "k")
	if err != nil {
		t.Fatal(err)
	}
	if s.Text("password") != "" || s.Text("key-file") != "k" {
		t.Errorf("a flag leaves the variable in effect: %v", s.Show())
	}
	if s.Text("vcenter.password") != "" || s.Text("vcenter.password-file") != "f" {
		t.Errorf("our variable does not win over govc's: %v", s.Show())
	}
}

func TestVCenterURLGivesUpUserAndPassword(t *testing.T) {
	for _, c := range []struct {
		env                           []string
		url, user, password, userFrom string
	}{
		{[]string{"GOVC_URL=https://u:p%40ss@vc"}, "https://vc/sdk", "u", "p@ss", "variable GOVC_URL"},
		{[]string{"GOVC_URL=u:pw@vc:8989"}, "https://vc:8989/sdk", "u", "pw", "variable GOVC_URL"},
		{[]string{"GOVC_URL=vc", "GOVC_USERNAME=a", "GOVC_PASSWORD=b"}, "https://vc/sdk", "a", "b", "variable GOVC_USERNAME"},
		{[]string{"GOVC_URL=https://u:pw@vc/sdk", "HOLDFAST_VCENTER_USER=h", "HOLDFAST_VCENTER_PASSWORD=hp"}, "https://vc/sdk", "h", "hp", "variable HOLDFAST_VCENTER_USER"},
		{[]string{"HOLDFAST_VCENTER_URL=https://u:pw@vc/sdk", "GOVC_USERNAME=a", "GOVC_PASSWORD=b"}, "https://vc/sdk", "u", "pw", "variable HOLDFAST_VCENTER_URL"},
		{[]string{"HOLDFAST_VCENTER_URL=https://u:pw@one/sdk", "GOVC_URL=https://x:y@two/sdk"}, "https://one/sdk", "u", "pw", "variable HOLDFAST_VCENTER_URL"},
	} {
		s, err := resolve(t, c.env)
		if err != nil {
			t.Fatal(err)
		}
		if s.Text("vcenter.url") != c.url || s.Text("vcenter.user") != c.user || s.Text("vcenter.password") != c.password || s.Origin("vcenter.user").String() != c.userFrom {
			t.Errorf("%v: %q %q %q from %s", c.env, s.Text("vcenter.url"), s.Text("vcenter.user"), s.Text("vcenter.password"), s.Origin("vcenter.user"))
		}
	}
	for _, bad := range []string{"https://u:canary%zz@vc", "https://u:can#ary@vc", "ldap://u:canary@vc", "https://"} {
		_, err := resolve(t, []string{"GOVC_URL=" + bad})
		if err == nil {
			t.Errorf("%s: accepted", bad)
		} else if strings.Contains(err.Error(), "can") {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
}

func TestProfileMistakesAreErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"c.yaml", "profiles: {default: {reppo: /x}}", `unknown key "reppo"`},
		{"c.yaml", "profiles: {default: {config: /x}}", `unknown key "config"`},
		{"c.yaml", "profiles: {default: {vcenter: {usr: x}}}", `unknown key "vcenter.usr"`},
		{"c.yaml", "profiles: {default: {oracle: {user: x}}}", `unknown section "oracle"`},
		{"c.yaml", "profiles: {default: {config show: {orign: true}}}", `no flag "orign"`},
		{"c.yaml", "profiles: {default: {config show: {json: true}}}", `no flag "json"`},
		{"c.yaml", "profiles: {default: {version: {}, nonsense: {}}}", `unknown section "nonsense"`},
		{"c.yaml", "profiles: {default: {repo: }}", "repo: has no value"},
		{"c.yaml", "profiles: {default: {repo: [a, b]}}", "repo: must be one value"},
		{"c.yaml", "profiles: {default: {password: 0123}}", "must be quoted"},
		{"c.yaml", "profile: {default: {}}", `unknown key "profile"`},
		{"c.yaml", "profiles: {default: hello}", "not a section"},
		{"c.yaml", "profiles:\n  default:\n    password: canary\n   repo: x\n", "not valid YAML (line"},
		{"c.yaml", "canary", "not valid YAML"},
		{"c.toml", "[profiles.default]\npassword = 'canary'\nrepo = [\n", "not valid TOML (line"},
		{"c.ini", "", "unknown format"},
	} {
		_, err := resolve(t, nil, "--config", write(t, c.name, c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.text, err, c.want)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("the error quotes the file: %v", err)
		}
	}
	if _, err := resolve(t, nil, "--config", filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a missing --config is accepted")
	}
	file := write(t, "c.yaml", "profiles: {nightly: {}, weekly: {}}")
	_, err := resolve(t, nil, "--config", file, "--profile", "nightyl")
	if _, hint := classify(err); err == nil || !strings.Contains(hint, "nightly, weekly") {
		t.Errorf("unknown profile: %v, %s", err, hint)
	}
	if _, err := resolve(t, nil, "--profile", "nightly"); err == nil || !strings.Contains(err.Error(), "no configuration file") {
		t.Errorf("profile without file: %v", err)
	}
}

func TestYAMLAndTOMLSayTheSame(t *testing.T) {
	yaml := "profiles:\n  p:\n    repo: /x\n    limit-upload: 100\n    quiet: true\n    vcenter:\n      url: https://vc\n      user: u\n    config show:\n      origin: true\n"
	toml := "[profiles.p]\nrepo = '/x'\nlimit-upload = 100\nquiet = true\n[profiles.p.vcenter]\nurl = 'https://vc'\nuser = 'u'\n[profiles.p.'config show']\norigin = true\n"
	var shown []string
	for name, text := range map[string]string{"c.yaml": yaml, "c.toml": toml} {
		got := try(Std{}, nil, "config", "show", "--json", "--config", write(t, name, text), "--profile", "p")
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		var rows []settings.Shown
		if err := json.Unmarshal([]byte(got.out), &rows); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, r := range rows {
			if strings.HasPrefix(r.Origin, "profile ") {
				fmt.Fprintln(&b, r.Name, r.Value)
			}
		}
		shown = append(shown, b.String())
	}
	want := "repo /x\nquiet true\nlimit-upload 100\nvcenter.url https://vc/sdk\nvcenter.user u\nconfig show --origin true\n"
	if shown[0] != want || shown[1] != want {
		t.Errorf("got\n%s\nand\n%s\nwant\n%s", shown[0], shown[1], want)
	}
}

func TestProfileGivesACommandItsFlags(t *testing.T) {
	file := write(t, "c.yaml", "profiles: {default: {probe: {parallel: 4, exclude: ['a,b', c]}}}")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `4 ["a,b" "c"]`},
		{[]string{"--parallel", "2", "--exclude", "x"}, `2 ["x"]`},
	} {
		var got string
		o := try(Std{}, func(a *app) *cobra.Command {
			var parallel int
			var exclude []string
			p := probe(func(context.Context, *app) error { got = fmt.Sprintf("%d %q", parallel, exclude); return nil })(a)
			p.Flags().IntVar(&parallel, "parallel", 1, "")
			p.Flags().StringArrayVar(&exclude, "exclude", nil, "")
			return p
		}, append([]string{"probe", "--config", file}, c.args...)...)
		if o.code != 0 || got != c.want {
			t.Errorf("%v: %s, want %s (%+v)", c.args, got, c.want, o)
		}
	}
}

func TestDefaultProfileIsUsedUnasked(t *testing.T) {
	file := write(t, "c.yaml", "profiles: {default: {repo: /d}, other: {repo: /o}}")
	if s, err := resolve(t, nil, "--config", file); err != nil || s.Text("repo") != "/d" {
		t.Errorf("%v", err)
	}
	if s, err := resolve(t, nil, "--config", file, "--profile", "other"); err != nil || s.Text("repo") != "/o" {
		t.Errorf("%v", err)
	}
	none := write(t, "d.yaml", "profiles: {other: {repo: /o}}")
	if s, err := resolve(t, nil, "--config", none); err != nil || s.Text("repo") != "" || s.Profile() != "" {
		t.Errorf("a profile nobody asked for is used: %v", err)
	}
}

func TestConfigurationIsFoundInItsDirectories(t *testing.T) {
	dir := t.TempDir()
	env := []string{"XDG_CONFIG_HOME=" + dir}
	put := func(name string) string {
		file := filepath.Join(dir, "holdfast", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(orderProfile[:len("profiles:\n")]+"  default: {repo: /x}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	file := put("config.yaml")
	s, err := resolve(t, env)
	if err != nil || s.Origin("repo").String() != "profile "+file+":default" {
		t.Fatalf("%v %v", err, s)
	}
	put("config.toml")
	if _, err := resolve(t, env); err == nil || !strings.Contains(err.Error(), "both") {
		t.Errorf("two files in one directory: %v", err)
	}
}

func TestMisspelledVariableIsToldWithoutItsValue(t *testing.T) {
	got := try(Std{Environ: []string{"HOLDFAST_REPO=/x", "HOLDFAST_PASWORD=canary77", "HOLDFAST_DEMAND_PARTS=1"}}, nil, "version")
	if got.code != 0 || !strings.Contains(got.err, "HOLDFAST_REPO means nothing here; HOLDFAST_REPOSITORY is one") ||
		!strings.Contains(got.err, "HOLDFAST_PASSWORD is one") || strings.Contains(got.err, "canary") || strings.Contains(got.err, "DEMAND") {
		t.Errorf("got %+v", got)
	}
}

func TestRepositoryFile(t *testing.T) {
	s, err := resolve(t, nil, "--repository-file", write(t, "r", "\ufeffs3:https://host/bucket\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if repo, err := s.Repository(); err != nil || repo != "s3:https://host/bucket" {
		t.Errorf("%q %v", repo, err)
	}
	s, _ = resolve(t, nil, "--repository-file", write(t, "r", "a\nb\n"))
	if _, err := s.Repository(); err == nil {
		t.Error("two lines are accepted")
	}
}

func TestLimitsAreKiBPerSecond(t *testing.T) {
	s, err := resolve(t, []string{"HOLDFAST_LIMIT_DOWNLOAD=7"}, "--limit-upload", "2048")
	if err != nil {
		t.Fatal(err)
	}
	if up, down := s.Limits(); up != 2<<20 || down != 7<<10 {
		t.Errorf("up %d, down %d", up, down)
	}
}
