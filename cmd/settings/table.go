package settings

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// form says what a setting's value is.
type form int

const (
	isText form = iota
	isBool
	isCount   // a whole number, 0 or more
	isSecret  // never shown
	isCommand // shown without its arguments, which may hold secrets
	isURL     // shown without user information
	isToken   // a URL whose path is a secret: shown without it
)

// setting is one value that flag, variable, profile or default can give.
type setting struct {
	// name is the flag without its dashes, and the key in a profile. A dot makes
	// a section: vcenter.url is url under vcenter.
	name  string
	short string // one-letter flag
	usage string // of the global flag; "" for a setting without global flag
	form  form
	// variable is derived from the name when empty: tls-ca → HOLDFAST_TLS_CA.
	variable string
	also     []string // variables of other tools, accepted after ours
	choices  []string
	// choice groups alternatives: at the level that decides, only one of a group
	// may be given, and those of lower levels no longer count.
	choice string
	// commandLine settings choose the profile, so a profile cannot hold them.
	commandLine bool
}

// table lists every setting. A flag of a command takes part, too, when
// its name is in here (copy's --from-password-file).
var table = slices.Concat([]setting{
	{name: "repo", short: "r", usage: "the repository: a path, s3:https://host/bucket/prefix or s3:bucket/prefix, as `URL`", variable: "HOLDFAST_REPOSITORY", form: isURL, choice: "repository"},
	{name: "repository-file", usage: "read the repository's URL from `FILE`", choice: "repository"},
	{name: "password-file", usage: "read the password from `FILE` (- is standard input)", choice: "password"},
	{name: "password-command", usage: "run `COMMAND` (no shell) and take what it prints as the password", form: isCommand, choice: "password"},
	{name: "key-file", usage: "open the repository with the key in `FILE` instead of a password", choice: "password"},
	{name: "password", form: isSecret, choice: "password"},
	{name: "config", usage: "read profiles from `FILE` (YAML or TOML)", commandLine: true},
	{name: "profile", usage: "use the settings of `PROFILE`", commandLine: true},
	{name: "json", usage: "results as JSON on standard output", form: isBool},
	{name: "quiet", short: "q", usage: "no progress, no notes", form: isBool},
	{name: "verbose", short: "v", usage: "tell more", form: isBool},
	{name: "log-file", usage: "append a log to `FILE`"},
	{name: "log-format", usage: "`FORMAT` of the log: text or json", choices: []string{"text", "json"}},
	{name: "no-progress", usage: "no progress bar and no progress lines", form: isBool},
	{name: "cache-dir", usage: "keep the cache in `DIR`"},
	{name: "limit-upload", usage: "send at most this many `KiB/s` to the repository (0: no limit)", form: isCount},
	{name: "limit-download", usage: "fetch at most this many `KiB/s` from the repository (0: no limit)", form: isCount},
	{name: "metrics-textfile", usage: "write metrics of the run to `FILE` for Prometheus' node_exporter"},
	{name: "ping-url", usage: "tell `URL` how the run ended: URL after success, URL/fail otherwise", form: isToken},
	{name: "tls-ca", usage: "trust the certificates in the PEM `FILE`, too"},

	{name: "vcenter.url", form: isURL, also: []string{"GOVC_URL"}},
	{name: "vcenter.user", also: []string{"GOVC_USERNAME"}},
	{name: "vcenter.thumbprint"},
	{name: "vcenter.insecure", form: isBool, also: []string{"GOVC_INSECURE"}},
	{name: "guest.user"},
	{name: "guest.address"},
	{name: "guest.port"},
	{name: "sql.user"},
	{name: "sql.address"},
	{name: "sql.trust", form: isBool},
	{name: "s3.access-key-id", variable: "AWS_ACCESS_KEY_ID"},
	{name: "s3.secret-access-key", variable: "AWS_SECRET_ACCESS_KEY", form: isSecret},
	{name: "s3.session-token", variable: "AWS_SESSION_TOKEN", form: isSecret},
	{name: "s3.region", variable: "AWS_REGION", also: []string{"AWS_DEFAULT_REGION"}},
	{name: "s3.style", choices: []string{"auto", "path", "virtual"}},

	{name: "from-repo", variable: "HOLDFAST_FROM_REPOSITORY", form: isURL},
	{name: "from-key-file", choice: "from-password"},
},
	secretForms("vcenter.password", "GOVC_PASSWORD"),
	secretForms("guest.password"),
	secretForms("sql.password"),
	secretForms("from-password"),
)

// secretForms are the three ways to give a secret: itself, a file, a command.
func secretForms(name string, also ...string) []setting {
	return []setting{
		{name: name, form: isSecret, choice: name, also: also},
		{name: name + "-file", choice: name},
		{name: name + "-command", form: isCommand, choice: name},
	}
}

// Variable is the environment variable of a setting, "" if there is no such
// setting.
func Variable(name string) string {
	for _, set := range table {
		if set.name == name {
			return set.variables()[0]
		}
	}
	return ""
}

// HoldsSecret reports whether an environment variable of that name and value is
// a setting that is a secret or carries one within a URL.
func HoldsSecret(variable, text string) bool {
	return slices.ContainsFunc(table, func(set setting) bool {
		secret := set.form == isSecret || set.form == isToken || set.form == isURL && passwordIn(text) != ""
		return secret && slices.ContainsFunc(set.variables(), func(name string) bool { return sameVariable(variable, name) })
	})
}

// AddFlags adds the global flags to the root command.
func AddFlags(flags *pflag.FlagSet) {
	for _, set := range table {
		switch {
		case set.usage == "":
		case set.form == isBool:
			flags.BoolP(set.name, set.short, false, set.usage)
		default:
			// Text, whatever the form: one check serves flag, variable and profile.
			flags.StringP(set.name, set.short, "", set.usage)
		}
	}
}

// variables are the environment variables of the setting, the one that wins first.
func (s setting) variables() []string {
	own := s.variable
	if own == "" {
		own = "HOLDFAST_" + strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToUpper(s.name))
	}
	return append([]string{own}, s.also...)
}

// check tells what is wrong with a value, without repeating it: the reader of
// the message knows where it came from, and it may be a secret.
func (s setting) check(text string) error {
	switch {
	case strings.ContainsAny(text, "\x00\r\n"):
		return fmt.Errorf("holds a line break or a NUL")
	case s.choices != nil && !slices.Contains(s.choices, text):
		return fmt.Errorf("%q is not one of %s", text, strings.Join(s.choices, ", "))
	case s.form == isBool:
		if _, err := strconv.ParseBool(text); err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case s.form == isCount:
		if _, err := strconv.ParseUint(text, 10, 31); err != nil {
			return fmt.Errorf("%q is not a whole number from 0 to 2147483647", text)
		}
	case s.form == isToken:
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("is not an http:// or https:// URL")
		}
	}
	return nil
}

// show is the value as it may be printed.
func (s setting) show(text string) string {
	switch s.form {
	case isSecret:
		return "***"
	case isCommand:
		if words, err := SplitCommand(text); err == nil && len(words) > 0 {
			if len(words) > 1 {
				return filepath.Base(words[0]) + " ***"
			}
			return words[0]
		}
		return "***"
	case isToken:
		return HostOf(text) + "/***"
	case isURL:
		return redactURL(text)
	}
	return text
}

// HostOf is scheme and host of a URL, nothing that could be secret.
func HostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "***"
	}
	return u.Scheme + "://" + u.Host
}

// redactURL replaces user information in a URL, also one with a prefix such as
// s3: or without a scheme. It works on the text, since a password with a
// character that URLs forbid must not stay because parsing failed.
func redactURL(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return text
	}
	start := 0
	if i := strings.Index(text[:at], "://"); i >= 0 {
		start = i + len("://")
	} else if !strings.Contains(text[:at], ":") {
		return text // a path with an @ in it
	}
	return text[:start] + "***@" + text[at+1:]
}

// passwordIn is the password that a URL carries, as it is written there.
func passwordIn(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return ""
	}
	user := text[:at]
	if i := strings.Index(user, "://"); i >= 0 {
		user = user[i+len("://"):]
	}
	_, password, _ := strings.Cut(user, ":")
	return password
}
