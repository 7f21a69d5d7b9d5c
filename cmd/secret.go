package cmd

import (
	"context"
	"io"

	"holdfast/cmd/secret"
)

// secrets is where this run's secrets come from.
func (a *app) secrets() secret.Source {
	return secret.Source{
		Setting: a.settings.Text, Environ: a.std.Environ, In: a.std.In, Err: a.std.Err, TakeIn: a.takeStdin,
		Prompt: a.std.Prompt, Warn: a.ui.Warn, Redact: a.redact,
	}
}

// takeStdin gives standard input to one purpose; a second one would read what
// is left, so it is refused.
func (a *app) takeStdin(purpose string) (io.Reader, error) {
	if a.stdinFor != "" {
		return nil, usagef("give one of them as a file", "standard input is wanted twice: for %s and for %s", a.stdinFor, purpose)
	}
	a.stdinFor = purpose
	return a.std.In, nil
}

// The vCenter's password has a name of its own here: several commands need it.
const vcenterSecret = secret.VCenter

func (a *app) loadSecret(ctx context.Context, kind secret.Kind) ([]byte, error) {
	return a.secrets().Load(ctx, kind)
}
