package sqlcmd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/doctor"
	"holdfast/cmd/frame"
	"holdfast/cmd/settings"
	"holdfast/cmd/usage"
	"holdfast/cmd/verdict"
	"holdfast/sqlguest/decide"
)

type doctorOptions struct {
	place
	areas   []string
	request decide.Request
}

// NewDoctor makes the command doctor.
func NewDoctor(a frame.App) *cobra.Command {
	var opts doctorOptions
	c := frame.Documented(&cobra.Command{
		Use:   "doctor [repo] [vcenter] [guest] [sql]",
		Short: "look at everything a run will need, before it needs it",
		Long: `Doctor takes every pre-check of the areas that are named, one line each, with what helps
where one is not well; without a name it takes those that the settings and flags speak of.
It changes nothing: for guest and sql with --vm the agent is put into the guest, as a backup
does, and taken out again. The areas are repo (the repository), vcenter (address, login and
privileges), guest (the machine with --vm, from outside and inside) and sql (its SQL
Servers, or that of --instance).`,
		Example:   "holdfast doctor\nholdfast doctor guest sql --vm db01\nholdfast -r /srv/backup doctor repo --json\nholdfast doctor privileges",
		ValidArgs: []string{doctor.Repository, doctor.VCenter, doctor.Guest, doctor.SQL},
		Args:      usage.Args("[AREA…]"),
		RunE: func(c *cobra.Command, areas []string) error {
			opts.areas = areas
			return runDoctor(c.Context(), opts, a)
		},
	}, append(codes(), append(frame.RepositoryCodes(), verdict.Busy)...)...)
	opts.flags(c)
	c.Flags().BoolVar(&opts.request.AllowAG, "allow-ag", false, "look as backups with --allow-ag do")
	c.AddCommand(frame.Documented(&cobra.Command{
		Use:     "privileges",
		Short:   "print what an account needs in the vCenter",
		Example: "holdfast doctor privileges --json",
		Args:    usage.Args(),
		RunE:    func(*cobra.Command, []string) error { return doctor.ShowRoles(a.UI()) },
	}))
	return c
}

// choose says which areas are looked at.
func (o *doctorOptions) choose(a frame.App) error {
	known := []string{doctor.Repository, doctor.VCenter, doctor.Guest, doctor.SQL}
	for _, area := range o.areas {
		if !slices.Contains(known, area) {
			return settings.Usagef("one of: "+strings.Join(known, ", ")+", privileges", "doctor knows no %q", area)
		}
	}
	if o.vm != "" && o.instance != "" {
		return o.check()
	}
	if len(o.areas) == 0 {
		for area, speaks := range map[string]bool{
			doctor.Repository: a.Setting("repo") != "" || a.Setting("repository-file") != "", doctor.VCenter: a.Setting("vcenter.url") != "",
			doctor.Guest: o.vm != "", doctor.SQL: o.vm != "" || o.instance != "",
		} {
			if speaks {
				o.areas = append(o.areas, area)
			}
		}
	}
	switch {
	case len(o.areas) == 0:
		return settings.Usagef("holdfast doctor repo, vcenter, guest --vm NAME, sql --vm NAME or sql --instance I", "nothing to look at was named")
	case slices.Contains(o.areas, doctor.Guest) && o.vm == "":
		return settings.Usagef("holdfast doctor guest --vm NAME", "no virtual machine was named")
	case slices.Contains(o.areas, doctor.SQL):
		return o.check()
	}
	return nil
}

func runDoctor(ctx context.Context, opts doctorOptions, a frame.App) error {
	if err := opts.choose(a); err != nil {
		return err
	}
	wants := func(area string) bool { return slices.Contains(opts.areas, area) }
	report := doctor.New(a)
	if wants(doctor.Repository) {
		report.Repository(ctx)
	}
	if wants(doctor.VCenter) {
		report.VCenter(ctx)
	}
	if opts.vm != "" && (wants(doctor.Guest) || wants(doctor.SQL)) {
		if err := opts.guest(ctx, report, a); err != nil {
			return err
		}
	}
	if opts.instance != "" && wants(doctor.SQL) {
		login, err := sqlLogin(ctx, a)
		if err != nil {
			return err
		}
		login.Instance = opts.instance
		report.SQL(ctx, login, opts.request)
	}
	if err := report.Show(a.UI()); err != nil {
		return fmt.Errorf("show the report: %w", err)
	}
	return report.Err(ctx)
}

// guest looks into the guest, with the logins that a backup would use.
func (o *doctorOptions) guest(ctx context.Context, report *doctor.Report, a frame.App) error {
	inside := doctor.Inside{VM: o.vm, Request: o.request, Machine: slices.Contains(o.areas, doctor.Guest), Server: slices.Contains(o.areas, doctor.SQL)}
	var err error
	if inside.Login, err = guestLogin(ctx, a); err != nil {
		return err
	}
	if inside.SQL, err = sqlLogin(ctx, a); err != nil {
		return err
	}
	lock, err := a.Lock("")
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // its end is the process's at the latest
	inside.Login.Lock = lock
	report.Guest(ctx, inside)
	return nil
}
