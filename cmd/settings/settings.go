// Package settings finds out what an operator wants. Each setting can come from
// a flag, an environment variable, a profile of the configuration file or a
// default, in this order; table.go lists them all, and everything else follows
// from that table: flags, names of variables, keys of profiles, what may be
// shown.
//
// Load resolves all settings of a run at once. Each value keeps its origin, so
// that errors and `config show --origin` can name the place to correct. What
// cannot be right is an error wherever it stands: a setting that is silently
// ignored is a backup that silently is not what was asked for.
package settings

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// level is how strong the place is that a value came from; lower wins.
type level int

const (
	fromFlag level = iota
	fromVariable
	fromOtherVariable // of another tool: GOVC_URL
	fromProfile
	fromDefault
	unset
)

// Origin says where a value came from.
type Origin struct {
	level level
	place string // --repo, HOLDFAST_REPOSITORY, /etc/holdfast/config.yaml:nightly
}

// String is the origin as `config show --origin` prints it.
func (o Origin) String() string {
	switch o.level {
	case fromFlag:
		return "flag " + o.place
	case fromVariable, fromOtherVariable:
		return "variable " + o.place
	case fromProfile:
		return "profile " + o.place
	}
	return "default"
}

type value struct {
	text   string
	origin Origin
}

// Settings are the values of one run, each with its origin. They are resolved
// once, before the command runs, and never change.
type Settings struct {
	values  map[string]value
	profile *profile // nil without one
}

// Loaded reports whether s came from Load; the zero Settings has no values.
func (s *Settings) Loaded() bool { return s.values != nil }

// Profile is the name of the profile in use, "" without one.
func (s *Settings) Profile() string {
	if s.profile == nil {
		return ""
	}
	return s.profile.name
}

// SecretFile is the configuration file if the profile holds a secret itself,
// so that others should not be able to read it; else "".
func (s *Settings) SecretFile() string {
	for _, set := range table {
		if _, ok := s.profile.text(set.name); ok && set.form == isSecret {
			return s.profile.file
		}
	}
	return ""
}

// Secrets are the values of all settings that must never be shown.
func (s *Settings) Secrets() []string {
	var secrets []string
	for _, set := range table {
		if v, ok := s.values[set.name]; ok && set.form == isSecret {
			secrets = append(secrets, v.text)
		}
	}
	return secrets
}

// Shown is a setting as config show prints it: without secrets.
type Shown struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Show lists the settings that have a value, in the order of the table, then
// the profile's defaults for commands' own flags.
func (s *Settings) Show() []Shown {
	var shown []Shown
	for _, set := range table {
		if v, ok := s.values[set.name]; ok {
			shown = append(shown, Shown{set.name, set.show(v.text), v.origin.String()})
		}
	}
	return append(shown, s.profile.shownFlags()...)
}

// Text is the value of a setting, "" when it has none.
func (s *Settings) Text(name string) string { return s.values[name].text }

// Shown is the value of a setting as it may be printed.
func (s *Settings) Shown(name string) string {
	for _, set := range table {
		if set.name == name {
			return set.show(s.Text(name))
		}
	}
	return ""
}

// Bool is the value of an isBool setting.
func (s *Settings) Bool(name string) bool {
	b, _ := strconv.ParseBool(s.Text(name)) // checked when resolved
	return b
}

// Count is the value of an isCount setting.
func (s *Settings) Count(name string) int64 {
	n, _ := strconv.ParseInt(s.Text(name), 10, 64) // checked when resolved
	return n
}

// Origin says where the setting's value came from.
func (s *Settings) Origin(name string) Origin {
	if v, ok := s.values[name]; ok {
		return v.origin
	}
	return Origin{level: unset}
}

// Load resolves every setting for command c: flag, variable, profile,
// default. A value that cannot be right is an error wherever it stands.
func Load(c *cobra.Command, env Environment) (*Settings, error) {
	s := &Settings{values: map[string]value{}}
	for _, set := range table {
		if set.commandLine {
			if err := s.resolve(set, c, env); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if s.profile, err = findProfile(s, env); err != nil {
		return nil, err
	}
	for _, set := range table {
		if set.commandLine {
			continue
		}
		if err := s.resolve(set, c, env); err != nil {
			return nil, err
		}
	}
	if err := s.decideChoices(); err != nil {
		return nil, err
	}
	if err := s.splitVCenterURL(); err != nil {
		return nil, err
	}
	return s, s.profile.applyFlags(c)
}

// resolve finds the value of one setting. An empty variable is one that is not
// set; an empty flag is a mistake, mostly of a script's own variable.
func (s *Settings) resolve(set setting, c *cobra.Command, env Environment) error {
	found := value{origin: Origin{level: unset}}
	if f := c.Flag(set.name); f != nil && f.Changed {
		found = value{f.Value.String(), Origin{fromFlag, "--" + set.name}}
		if found.text == "" {
			return Usagef("leave the flag out, or check the variable that was to fill it", "flag --%s is empty", set.name)
		}
	}
	for i, name := range set.variables() {
		text, ok := env.lookup(name)
		if !ok || text == "" || found.origin.level != unset {
			continue
		}
		found = value{text, Origin{fromVariable, name}}
		if i > 0 {
			found.origin.level = fromOtherVariable
		}
	}
	if found.origin.level == unset && !set.commandLine {
		if text, ok := s.profile.text(set.name); ok {
			found = value{text, Origin{fromProfile, s.profile.place()}}
		}
	}
	if found.origin.level == unset {
		text := defaultOf(set.name, env)
		if text == "" {
			return nil
		}
		found = value{text, Origin{level: fromDefault}}
	}
	if err := set.check(found.text); err != nil {
		return Usagef("correct it there", "%s: %s: %v", found.origin, set.name, err)
	}
	s.values[set.name] = found
	return nil
}

// decideChoices keeps, of each group of alternatives, the one of the strongest
// level. Two at that level contradict each other: to guess which was meant
// would be to open, or create, a repository with the wrong key.
func (s *Settings) decideChoices() error {
	winners := map[string]string{}
	for _, set := range table {
		v, ok := s.values[set.name]
		if !ok || set.choice == "" {
			continue
		}
		rival, taken := winners[set.choice]
		if !taken {
			winners[set.choice] = set.name
			continue
		}
		other := s.values[rival]
		switch {
		case v.origin.level < other.origin.level:
			winners[set.choice] = set.name
			delete(s.values, rival)
		case v.origin.level > other.origin.level:
			delete(s.values, set.name)
		default:
			return Usagef("give one of them", "%s and %s contradict each other: both give %s",
				describeChoice(rival, other), describeChoice(set.name, v), choiceNames[set.choice])
		}
	}
	return nil
}

var choiceNames = map[string]string{
	"repository": "the repository's address", "password": "the repository's password or key",
	"vcenter.password": "the vCenter password", "guest.password": "the guest's password",
	"sql.password": "the SQL Server password", "from-password": "the password or key of the repository to copy from",
}

func describeChoice(name string, v value) string {
	if v.origin.level == fromProfile {
		return fmt.Sprintf("%s in %s", name, v.origin)
	}
	return v.origin.place
}

// splitVCenterURL takes user and password out of the vCenter's URL, where govc
// allows them, so that the URL can be printed. They count as much as the place
// the URL came from; at the same level a value of its own wins.
func (s *Settings) splitVCenterURL() error {
	v, ok := s.values["vcenter.url"]
	if !ok {
		return nil
	}
	text := v.text
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		// The parser's error repeats the URL, and with it a password.
		return Usagef("it looks like https://vcenter.example.com/sdk; characters such as @ / # % in a password are written as %40 %2F %23 %25",
			"%s: vcenter.url: not a URL", v.origin)
	}
	if u.User != nil {
		s.adopt("vcenter.user", u.User.Username(), v.origin)
		if password, given := u.User.Password(); given {
			s.adoptPassword(password, v.origin)
		}
		u.User = nil
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/sdk"
	}
	v.text = u.String()
	s.values["vcenter.url"] = v
	return nil
}

func (s *Settings) adopt(name, text string, from Origin) {
	if text != "" && from.level < s.Origin(name).level {
		s.values[name] = value{text, from}
	}
}

func (s *Settings) adoptPassword(password string, from Origin) {
	forms := []string{"vcenter.password", "vcenter.password-file", "vcenter.password-command"}
	for _, name := range forms {
		if s.Origin(name).level <= from.level {
			return
		}
	}
	for _, name := range forms {
		delete(s.values, name)
	}
	s.adopt("vcenter.password", password, from)
}

// Repository is the URL of the repository to use.
func (s *Settings) Repository() (string, error) {
	if repo := s.Text("repo"); repo != "" {
		return repo, nil
	}
	file := s.Text("repository-file")
	if file == "" {
		return "", ErrRepositoryMissing
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read repository file: %w", err)
	}
	repo := strings.TrimSpace(strings.TrimPrefix(string(data), "\ufeff"))
	if repo == "" || strings.ContainsAny(repo, "\r\n\x00") {
		return "", Usagef("the file holds the repository's URL and nothing else", "read repository file %s: not one line", file)
	}
	return repo, nil
}

// Limits are the bytes per second that may go to and come from the repository;
// 0 is no limit.
func (s *Settings) Limits() (upload, download int64) {
	return s.Count("limit-upload") * 1024, s.Count("limit-download") * 1024
}

// Environment is the process's environment as the caller of Main gave it.
type Environment []string

// Secrets are the values of variables, in effect or not, that must never be
// shown, also as part of a URL.
func (e Environment) Secrets() []string {
	var secrets []string
	for _, set := range table {
		for _, name := range set.variables() {
			switch text := e.Text(name); set.form {
			case isSecret:
				secrets = append(secrets, text)
			case isURL:
				secrets = append(secrets, passwordIn(text))
			}
		}
	}
	return secrets
}

// lookup finds a variable; the last one wins, as in os/exec.
func (e Environment) lookup(name string) (string, bool) {
	for _, entry := range slices.Backward(e) {
		if key, text, ok := strings.Cut(entry, "="); ok && sameVariable(key, name) {
			return text, true
		}
	}
	return "", false
}

// Text is a variable, "" when it is not set.
func (e Environment) Text(name string) string {
	v, _ := e.lookup(name)
	return v
}

// Misspelled lists variables that look like one of ours and are not, with what
// was probably meant: a HOLDFAST_REPO that nobody reads is a trap.
func (e Environment) Misspelled() map[string]string {
	var known []string
	for _, set := range table {
		known = append(known, set.variables()...)
	}
	found := map[string]string{}
	for _, entry := range e {
		name, value, _ := strings.Cut(entry, "=")
		if value == "" || !strings.HasPrefix(name, "HOLDFAST_") || slices.Contains(known, name) {
			continue
		}
		if near := Nearest(strings.TrimPrefix(name, "HOLDFAST_"), withoutPrefix(known)); near != "" {
			found[name] = "HOLDFAST_" + near
		}
	}
	return found
}

func withoutPrefix(names []string) []string {
	var out []string
	for _, n := range names {
		if rest, ok := strings.CutPrefix(n, "HOLDFAST_"); ok {
			out = append(out, rest)
		}
	}
	return out
}

// ErrRepositoryMissing: a command needs a repository and none was named.
var ErrRepositoryMissing = errors.New("no repository was named")

// ErrNoCacheDir: neither a directory for the cache nor a home to put it into is known.
var ErrNoCacheDir = errors.New("no cache directory is known")

// CacheDir is where the cache may lie.
func (s *Settings) CacheDir() (string, error) {
	if dir := s.Text("cache-dir"); dir != "" {
		return dir, nil
	}
	return "", ErrNoCacheDir
}
