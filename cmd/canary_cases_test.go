package cmd

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// canaryCase is how one command is run.
type canaryCase struct {
	args    func(r *canaryRun) []string
	repo    bool // it opens the repository, so a wrong password and a bucket that lies are failures
	new     bool // it makes one
	vcenter bool // it logs in
	sql     bool // it logs in at the SQL Server
	once    bool // it is slow, or has nothing to do with secrets: one way will do
	serves  bool // it runs until it is interrupted
	text    bool // it refuses --json
	// made is the file, or "stdout", that holds a new secret by right; the secret
	// must be nowhere else. "" for none.
	made string
}

// words are arguments that need nothing of the run.
func words(line string) func(*canaryRun) []string {
	return func(*canaryRun) []string { return strings.Fields(line) }
}

// inDir is words with a path of the run's directory at the end.
func inDir(line, name string) func(*canaryRun) []string {
	return func(r *canaryRun) []string { return append(strings.Fields(line), r.path(name)) }
}

// onFile is words with a file of the world at the end.
func onFile(line, name string) func(*canaryRun) []string {
	return func(r *canaryRun) []string { return append(strings.Fields(line), filepath.Join(r.w.dir, name)) }
}

// canaryCases are the cases of each command.
func canaryCases() map[string][]canaryCase {
	repo := func(args func(*canaryRun) []string) []canaryCase { return []canaryCase{{args: args, repo: true}} }
	vm := func(args func(*canaryRun) []string) []canaryCase { return []canaryCase{{args: args, vcenter: true}} }
	both := func(args func(*canaryRun) []string) []canaryCase {
		return []canaryCase{{args: args, repo: true, vcenter: true}}
	}
	first := func(r *canaryRun) string { return r.w.points[0] }
	return map[string][]canaryCase{
		"init": {{args: inDir("init --new-key-file", "made"), new: true, made: "made"}},
		"key add": {
			{args: onFile("key add --new-password-file", "new password"), repo: true},
			{args: inDir("key add --new-key-file", "made"), repo: true, made: "made"},
		},
		"key export": {
			{args: inDir("key export -o", "made"), repo: true, made: "made"},
			{args: words("key export -o -"), repo: true, made: "stdout"},
			{args: words("key export --no-key"), repo: true},
		},
		"key list":     repo(words("key list")),
		"key passwd":   repo(onFile("key passwd --new-password-file", "new password")),
		"key remove":   repo(func(r *canaryRun) []string { return []string{"key", "remove", r.w.spare} }),
		"key rotate":   repo(words("key rotate")),
		"points":       repo(words("points")),
		"show":         repo(words("show latest:a")),
		"diff":         repo(func(r *canaryRun) []string { return []string{"diff", r.w.points[0], r.w.points[1]} }),
		"dump":         {{args: words("dump latest:a"), repo: true, text: true}},
		"tag":          repo(words("tag latest:a --add x")),
		"pin":          repo(words("pin latest:a")),
		"unpin":        repo(words("unpin latest:a")),
		"check":        repo(words("check --read-data")),
		"scrub":        {{args: words("scrub --heal")}},
		"repair index": repo(words("repair index")),
		"repair packs": repo(words("repair packs")),
		"forget":       repo(func(r *canaryRun) []string { return []string{"forget", first(r), "--prune"} }),
		"prune":        repo(words("prune")),
		"stats":        repo(words("stats")),
		"copy":         repo(inDir("copy --from-repo", "from")),
		"backup image": repo(onFile("backup image", "a.raw")),
		"backup vm":    both(words("backup vm web01 --parallel 1")),
		"restore disk": repo(inDir("restore disk latest:a -o", "back.raw")),
		"restore vm": both(func(r *canaryRun) []string {
			return []string{"restore", "vm", "latest:web01", "--name", "copy-" + r.number}
		}),
		"backup sql": {{args: func(r *canaryRun) []string {
			return []string{"backup", "sql", "--instance", r.w.sql.Address(), "-d", "stock"}
		}, repo: true, sql: true}},
		"restore sql": {{args: func(r *canaryRun) []string {
			return []string{"restore", "sql", "sales", "--to-instance", r.w.sql.Address(), "--as", "copy_" + r.number}
		}, repo: true, sql: true}},
		"restore sqlfiles": {{args: func(r *canaryRun) []string {
			return []string{"restore", "sqlfiles", "sales", "--to-instance", r.w.sql.Address(), "--point", "latest:sales", "--target", "/files-" + r.number}
		}, repo: true, sql: true}},
		"chain":             repo(inDir("chain sales --html", "chain.html")),
		"sql marks":         repo(words("sql marks sales")),
		"sql databases":     {{args: func(r *canaryRun) []string { return []string{"sql", "databases", "--instance", r.w.sql.Address()} }, sql: true}},
		"vm list":           vm(words("vm list")),
		"vm cbt status":     vm(words("vm cbt status web01")),
		"vm cbt enable":     vm(words("vm cbt enable web01")),
		"vm cbt reset":      vm(words("vm cbt reset web01")),
		"vm cleanup":        vm(words("vm cleanup --older-than 0s")),
		"demo":              {{args: words("demo --size 64M"), once: true}},
		"lab serve":         {{args: words("lab serve"), serves: true, once: true}},
		"doctor privileges": {{args: words("doctor privileges")}, {args: func(r *canaryRun) []string { return []string{"doctor", "repo", "sql", "--instance", r.w.sql.Address()} }, repo: true, sql: true}},
		"config show":       {{args: words("config show --origin")}},
		"completion":        {{args: words("completion bash"), once: true}, {args: words("completion powershell"), once: true}},
		"man":               {{args: inDir("man", "man"), once: true}},
		"version":           {{args: words("version"), once: true}},
	}
}

// try runs a case by several ways to give the secrets, and in every trouble.
// Which way goes with which trouble changes with the number of the case.
func (w *canaryWorld) try(t *testing.T, c canaryCase, number int) {
	t.Helper()
	for i, way := range waysToOpen {
		slow := c.repo || c.new || c.vcenter || c.sql
		if c.once && i != 1 || slow && i > 1 && (i+number)%2 != 0 {
			continue
		}
		if got := w.one(t, c, way, nil, false); got.code != 0 && got.code != 3 {
			t.Errorf("by %s: code %d\n%s%s", way.name, got.code, got.out, got.err)
		}
	}
	w.one(t, c, waysToOpen[number%2], nil, true)
	for i, trouble := range w.troubles() {
		way := waysToOpen[(i+number)%2] // as text, or as JSON
		if !trouble.hits(c) || c.text && slices.Contains(way.flags, "--json") {
			continue
		}
		if got := w.one(t, c, way, trouble.env, false); got.code == 0 || got.code == 2 || !strings.Contains(got.err, trouble.says) {
			t.Errorf("%s, by %s: code %d\n%s%s", trouble.name, way.name, got.code, got.out, got.err)
		}
	}
	way := waysToOpen[(number+1)%2]
	r := w.begin(t, way)
	if got := r.run(append(c.args(r), append(slices.Clone(way.flags), "--nonsense="+w.password)...)...); got.code != 1 {
		t.Errorf("a flag that is none: code %d", got.code)
	}
	r.search(t)
}

// trouble is a way to fail.
type trouble struct {
	name string
	env  []string
	hits func(c canaryCase) bool
	says string // on standard error, to be sure that it was this that failed
}

func (w *canaryWorld) troubles() []trouble {
	wrong := url.URL{Scheme: "https", Host: w.lab.URL().Host, User: url.UserPassword(w.lab.User(), w.wrong)}
	echo := url.URL{Scheme: "https", Host: strings.TrimPrefix(w.vcenter.URL, "https://"), User: url.UserPassword(w.lab.User(), w.lab.Password())}
	opens := func(c canaryCase) bool { return c.repo }
	logs := func(c canaryCase) bool { return c.vcenter }
	bucket := []string{"HOLDFAST_REPOSITORY=s3:" + w.bucket.URL + "/bucket"}
	return []trouble{
		{"a wrong password", []string{"HOLDFAST_PASSWORD=" + w.wrong, "HOLDFAST_KEY_FILE="}, opens, "wrong password"},
		{"a bucket that echoes", bucket, func(c canaryCase) bool { return c.repo || c.new }, "you sent ***"},
		{"a bucket that echoes, credentials in a file", append(bucket, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=",
			"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(w.dir, "aws")), func(c canaryCase) bool { return c.repo || c.new }, "you sent ***"},
		{"a refused login", []string{"HOLDFAST_VCENTER_URL=" + wrong.String()}, logs, "refused the login"},
		{"a refused login at SQL Server", []string{"HOLDFAST_SQL_PASSWORD=" + w.wrong}, func(c canaryCase) bool { return c.sql }, "SQL Server refused the login"},
		{"a login that is echoed", []string{"HOLDFAST_VCENTER_URL=" + echo.String(), "HOLDFAST_VCENTER_THUMBPRINT=", "HOLDFAST_VCENTER_INSECURE=true"}, logs, "cannot parse"},
		{"nobody there", []string{"HOLDFAST_VCENTER_URL=https://u:" + string(newCanary("", []byte(w.wrong)).cores[0]) + "@127.0.0.1:1"}, logs, "127.0.0.1:1"},
	}
}

// one runs a case once and searches what it left.
func (w *canaryWorld) one(t *testing.T, c canaryCase, way wayToOpen, env []string, interrupted bool) outcome {
	t.Helper()
	r := w.begin(t, way)
	if c.new {
		r.env = append(r.env, "HOLDFAST_REPOSITORY="+r.path("new"))
	}
	r.env = append(r.env, env...)
	if interrupted {
		r.signals = make(chan os.Signal, 1)
		r.signals <- os.Interrupt
	}
	if c.made != "" {
		r.made = c.made
		if c.made != "stdout" {
			r.made = r.path(c.made)
		}
	}
	flags := slices.Clone(way.flags)
	if c.text {
		flags = slices.DeleteFunc(flags, func(flag string) bool { return flag == "--json" })
	}
	r.serves = c.serves
	got := r.run(append(c.args(r), flags...)...)
	r.noteMade(t)
	r.search(t)
	return got
}

// noteMade makes canaries of the secrets that the run itself has made.
func (r *canaryRun) noteMade(t *testing.T) {
	t.Helper()
	text := []byte(r.got.out)
	if r.made != "stdout" {
		var err error
		if text, err = os.ReadFile(r.made); err != nil {
			return // it failed before, or makes none
		}
	}
	if !strings.Contains(string(text), "holdfast-key-1 ") && !strings.Contains(string(text), "row 1:") {
		return // as JSON: see key_export.txtar
	}
	r.canaries = append(r.canaries, keyCanaries("the new key", text)...)
}
