package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// defaultProfile is used, if the file has it, when no profile is named.
const defaultProfile = "default"

// profile is one section of profiles in a configuration file:
//
//	profiles:
//	  nightly:
//	    repo: s3:https://minio.example.com/backups
//	    password-file: /etc/holdfast/password
//	    vcenter:
//	      url: https://vcenter.example.com
//	      user: backup@vsphere.local
//	      password-file: /etc/holdfast/vcenter
//	    backup vm:
//	      parallel: 4
//	      exclude-vm: [test01, test02]
//
// Keys are flag names; vcenter, guest, sql and s3 are sections of settings; a
// section named like a command holds defaults for that command's own flags.
type profile struct {
	file, name string
	values     map[string]string              // by setting name
	commands   map[string]map[string][]string // command path → flag → values
}

// place is how origins name the profile.
func (p *profile) place() string { return p.file + ":" + p.name }

func (p *profile) text(name string) (string, bool) {
	if p == nil {
		return "", false
	}
	text, ok := p.values[name]
	return text, ok
}

// findProfile reads the profile that --config and --profile or their variables
// choose; nil when none is asked for and no file holds the default one.
func findProfile(s *Settings, env Environment) (*profile, error) {
	file, name := s.Text("config"), s.Text("profile")
	if file == "" {
		var err error
		if file, err = searchConfig(env); err != nil {
			return nil, err
		}
	}
	if file == "" {
		if name == "" {
			return nil, nil
		}
		return nil, Usagef("it is looked for in "+strings.Join(configDirs(env), ", ")+"; or give it with --config FILE",
			"use profile %s: there is no configuration file", name)
	}
	all, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	wanted := name
	if wanted == "" {
		wanted = defaultProfile
	}
	section, ok := all[wanted]
	switch {
	case ok:
		return newProfile(file, wanted, section)
	case name == "":
		return nil, nil
	}
	names := sortedKeys(all)
	return nil, Usagef("the file has "+strings.Join(names, ", "), "use profile %s: not in %s", name, file)
}

// configDirs are the directories searched for config.yaml or config.toml.
func configDirs(env Environment) []string {
	var dirs []string
	add := func(base string, rest ...string) {
		if base != "" {
			dirs = append(dirs, filepath.Join(append([]string{base}, rest...)...))
		}
	}
	if xdg := env.Text("XDG_CONFIG_HOME"); xdg != "" {
		add(xdg, "holdfast")
	} else {
		add(env.Text("HOME"), ".config", "holdfast")
	}
	if runtime.GOOS == "windows" {
		add(env.Text("ProgramData"), "holdfast")
	} else {
		add("/etc", "holdfast")
	}
	return dirs
}

// searchConfig finds the first configuration file; "" when there is none.
func searchConfig(env Environment) (string, error) {
	for _, dir := range configDirs(env) {
		var found []string
		for _, name := range []string{"config.yaml", "config.yml", "config.toml"} {
			file := filepath.Join(dir, name)
			if _, err := os.Stat(file); err == nil {
				found = append(found, file)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("look for configuration: %w", err)
			}
		}
		if len(found) > 1 {
			return "", Usagef("keep one of them, or choose with --config", "read configuration: both %s exist", strings.Join(found, " and "))
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return "", nil
}

// readConfig decodes a configuration file into its profiles.
func readConfig(file string) (map[string]map[string]any, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, Usagef("check --config and HOLDFAST_CONFIG", "read configuration: %v", err)
	}
	format := strings.TrimPrefix(filepath.Ext(file), ".")
	if !slices.Contains([]string{"yaml", "yml", "toml"}, format) {
		return nil, Usagef("name it .yaml or .toml", "read configuration %s: unknown format", file)
	}
	// viper's codec, not its store: the store folds case and drops empty
	// keys, and a key that vanishes is a key that is ignored.
	decoder, err := viper.NewCodecRegistry().Decoder(format)
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", file, err)
	}
	raw := map[string]any{}
	if err := decoder.Decode(data, raw); err != nil {
		// The decoder's words may quote the file, secrets and all: only the place is told.
		return nil, Usagef("correct the file there", "read configuration %s: not valid %s%s", file, strings.ToUpper(format), errorPlace(err))
	}
	profiles := map[string]map[string]any{}
	for _, key := range sortedKeys(raw) {
		if key != "profiles" {
			return nil, Usagef("the file's only top-level key is profiles", "read configuration %s: unknown key %q", file, key)
		}
		sections, ok := raw[key].(map[string]any)
		if !ok {
			return nil, Usagef("each profile is a section under profiles", "read configuration %s: profiles is not a section", file)
		}
		for name, section := range sections {
			m, ok := section.(map[string]any)
			if section != nil && !ok {
				return nil, Usagef("each profile is a section under profiles", "read configuration %s: profile %s is not a section", file, name)
			}
			profiles[name] = m
		}
	}
	return profiles, nil
}

var linePattern = regexp.MustCompile(`line (\d+)`)

// errorPlace is " (line N)" when a decoder's error tells the line.
func errorPlace(err error) string {
	var placed interface{ Position() (row, column int) }
	if errors.As(err, &placed) {
		row, _ := placed.Position()
		return fmt.Sprintf(" (line %d)", row)
	}
	if m := linePattern.FindStringSubmatch(err.Error()); m != nil {
		return " (line " + m[1] + ")"
	}
	return ""
}

// newProfile checks the section's shape and flattens it.
func newProfile(file, name string, section map[string]any) (*profile, error) {
	p := &profile{file: file, name: name, values: map[string]string{}, commands: map[string]map[string][]string{}}
	for _, key := range sortedKeys(section) {
		var err error
		if sub, ok := section[key].(map[string]any); ok {
			err = p.addSection(key, sub)
		} else {
			err = p.addValue(key, section[key])
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// addSection takes vcenter, guest, sql, s3, or a command's defaults. Whether
// the command exists is known only later: see applyFlags.
func (p *profile) addSection(key string, section map[string]any) error {
	isSettings := slices.ContainsFunc(table, func(s setting) bool { return strings.HasPrefix(s.name, key+".") })
	for _, name := range sortedKeys(section) {
		if isSettings {
			if err := p.addValue(key+"."+name, section[name]); err != nil {
				return err
			}
			continue
		}
		list, ok := section[name].([]any)
		if !ok {
			list = []any{section[name]}
		}
		for _, item := range list {
			text, err := scalar(item)
			if err != nil {
				return p.errorf("%s: %s: %v", key, name, err)
			}
			if p.commands[key] == nil {
				p.commands[key] = map[string][]string{}
			}
			p.commands[key][name] = append(p.commands[key][name], text)
		}
	}
	if !isSettings && p.commands[key] == nil {
		p.commands[key] = map[string][]string{}
	}
	return nil
}

func (p *profile) addValue(name string, v any) error {
	i := slices.IndexFunc(table, func(s setting) bool { return s.name == name })
	if i < 0 || table[i].commandLine {
		var known []string
		for _, s := range table {
			known = append(known, s.name)
		}
		hint := "keys are the names of global flags, and those of the sections vcenter, guest, sql and s3"
		if near := Nearest(name, known); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		return Usagef(hint, "profile %s: unknown key %q", p.place(), name)
	}
	if _, isString := v.(string); table[i].form == isSecret && !isString {
		return p.errorf("%s: a secret must be quoted, or it may be read as a number", name)
	}
	text, err := scalar(v)
	if err != nil {
		return p.errorf("%s: %v", name, err)
	}
	p.values[name] = text
	return nil
}

func (p *profile) errorf(format string, args ...any) error {
	return Usagef("correct the file there", "profile %s: %s", p.place(), fmt.Sprintf(format, args...))
}

// scalar is the text of a single value.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errors.New("has no value")
	case string:
		if v == "" {
			return "", errors.New("is empty")
		}
		return v, nil
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("must be one value")
}

// applyFlags gives command c the defaults that the profile holds for it, and
// checks that every command section names a command and its own flags.
func (p *profile) applyFlags(c *cobra.Command) error {
	if p == nil {
		return nil
	}
	for _, path := range sortedKeys(p.commands) {
		target, rest, err := c.Root().Find(strings.Fields(path))
		if err != nil || len(rest) > 0 || target == c.Root() {
			return Usagef("sections are vcenter, guest, sql, s3, and commands such as \"backup vm\"", "profile %s: unknown section %q", p.place(), path)
		}
		for _, name := range sortedKeys(p.commands[path]) {
			f := target.LocalNonPersistentFlags().Lookup(name)
			isSetting := slices.ContainsFunc(table, func(s setting) bool { return s.name == name })
			if f == nil || name == "help" || isSetting {
				return Usagef(fmt.Sprintf("%q lists the flags", target.CommandPath()+" --help"), "profile %s: %s has no flag %q", p.place(), path, name)
			}
			if target != c || f.Changed {
				continue
			}
			if err := setFlag(f, p.commands[path][name]); err != nil {
				return p.errorf("%s: %s: invalid value", path, name)
			}
		}
	}
	return nil
}

// setFlag sets a flag as if it had been typed, once a value.
func setFlag(f *pflag.Flag, values []string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		f.Changed = true
		return list.Replace(values) // not Set, which would split a name at its commas
	}
	if len(values) != 1 {
		return errors.New("takes one value")
	}
	f.Changed = true
	return f.Value.Set(values[0])
}

// shownFlags are the profile's defaults for commands' own flags.
func (p *profile) shownFlags() []Shown {
	if p == nil {
		return nil
	}
	var shown []Shown
	for _, path := range sortedKeys(p.commands) {
		for _, name := range sortedKeys(p.commands[path]) {
			for _, text := range p.commands[path][name] {
				shown = append(shown, Shown{path + " --" + name, text, "profile " + p.place()})
			}
		}
	}
	return shown
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// sameVariable compares names of variables as the system does.
func sameVariable(a, b string) bool {
	return a == b || runtime.GOOS == "windows" && strings.EqualFold(a, b)
}

// defaultOf is the default of a setting that has one.
func defaultOf(name string, env Environment) string {
	switch name {
	case "log-format":
		return "text"
	case "cache-dir":
		return defaultCacheDir(env)
	}
	return ""
}

// defaultCacheDir is the system's place for caches.
func defaultCacheDir(env Environment) string {
	under := func(base string, rest ...string) string {
		if base == "" {
			return ""
		}
		return filepath.Join(append([]string{base}, rest...)...)
	}
	switch {
	case runtime.GOOS == "windows":
		return under(env.Text("LocalAppData"), "holdfast", "cache")
	case env.Text("XDG_CACHE_HOME") != "":
		return under(env.Text("XDG_CACHE_HOME"), "holdfast")
	case runtime.GOOS == "darwin":
		return under(env.Text("HOME"), "Library", "Caches", "holdfast")
	}
	return under(env.Text("HOME"), ".cache", "holdfast")
}
