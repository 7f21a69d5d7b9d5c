package cmd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/monitor"
	"holdfast/cmd/settings"
	"holdfast/cmd/ui"
)

// offlineKey annotates commands that only look at the program itself: how they
// end is told to no monitor.
const offlineKey = "offline"

// finish tells the monitors and closes the log.
func (a *app) finish(ctx context.Context, c *cobra.Command, code exitCode, runErr error) {
	help := c.Flags().Lookup("help")
	if isCompletion(c) || help != nil && help.Changed {
		return
	}
	if !a.settings.Loaded() {
		// The command line was wrong. A monitor hears of that, too, if flags
		// and variables tell which.
		if s, err := settings.Load(c, a.std.Environ); err == nil {
			a.settings = s
		}
	}
	if _, offline := c.Annotations[offlineKey]; !offline {
		a.tellMonitors(ctx, c, code, runErr)
	}
	a.log.Info("end", "code", int(code), "duration", a.report.Elapsed(a.now()).Round(time.Millisecond))
	if err := a.closeLog(); err != nil {
		a.ui.Warn("close log: %v", err)
	}
}

// tellMonitors tells those that the settings name. One that cannot be told is a
// warning: it never changes how the run ended.
func (a *app) tellMonitors(ctx context.Context, c *cobra.Command, code exitCode, runErr error) {
	end := monitor.Ending{Command: strings.TrimPrefix(c.CommandPath(), "holdfast "), Profile: a.settings.Profile(), Code: int(code), At: a.now()}
	if runErr != nil {
		end.Message = a.redact.Redact(runErr.Error())
	}
	if file := a.settings.Text("metrics-textfile"); file != "" {
		if err := a.report.Write(file, end); err != nil {
			a.ui.Warn("write metrics: %v", err)
		}
	}
	if to := a.settings.Text("ping-url"); to != "" {
		roots, err := a.settings.RootCAs()
		if err == nil {
			err = monitor.Ping(ctx, to, end, roots)
		}
		if err != nil {
			a.ui.Warn("ping %s: %v", settings.HostOf(to), err)
		}
	}
}

// orEmpty makes an empty list of a nil one: JSON shows [] instead of null.
func orEmpty[T any](list []T) []T { return ui.OrEmpty(list) }

// openLog opens --log-file and sets a.log. It returns the file's logger, nil
// without a file; with --verbose alone the log goes to standard error.
func (a *app) openLog() (*slog.Logger, error) {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	file := a.settings.Text("log-file")
	if file == "" {
		if a.verbose && !a.quiet {
			a.log = slog.New(a.redact.LogHandler(a.std.Err, a.json, level))
		}
		return nil, nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	a.closeLog = f.Close
	run := make([]byte, 4)
	_, _ = rand.Read(run) // crypto/rand never fails
	a.log = slog.New(a.redact.LogHandler(f, a.settings.Text("log-format") == "json", level)).With("run", hex.EncodeToString(run))
	return a.log, nil
}
