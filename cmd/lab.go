package cmd

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"holdfast/cmd/practice"
	"holdfast/vmware/lab"
)

func newLabCommand(a *app) *cobra.Command {
	var listen string
	serve := documented(&cobra.Command{
		Use:   "serve",
		Short: "run the laboratory until Ctrl-C, printing the variables to use against it",
		Long: `Serve runs a vCenter to practise on, with one host, two datastores and the VM web01 (two
disks) and sql01, in whose guest a SQL Server has the databases sales (FULL), stock (SIMPLE)
and "it's, ünï" (FULL). It keeps everything in temporary directories that go away with it. It
speaks the real protocols and enforces the real rules, but it is neither vCenter nor SQL
Server: see its packages for what it does differently.

There is one SQL Server, and a VM restored from sql01 answers with it as well: restore vm
--app sql overwrites the databases of sql01 itself here. The logins that are printed fit
sql01 alone, not web01.`,
		Example:     "holdfast lab serve\nholdfast lab serve --listen 127.0.0.1:8989 --json",
		Args:        args(),
		Annotations: map[string]string{offlineKey: "", servesKey: ""},
		RunE:        func(c *cobra.Command, _ []string) error { return runLabServe(c.Context(), listen, a) },
	})
	serve.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "listen on `ADDRESS`")
	return newGroup("lab", "a vCenter and a SQL Server to practise on", "The laboratory is a vCenter and a SQL Server inside this program, for trying commands and for tests.", serve)
}

func runLabServe(ctx context.Context, listen string, a *app) error {
	l, err := lab.Start(ctx, lab.Options{Listen: listen})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := practice.AddWeb01(l); err != nil {
		return err
	}
	sql, err := practice.StartSQL("")
	if err != nil {
		return err
	}
	defer sql.Close() //nolint:errcheck // the laboratory goes as a whole
	env := l.Env()
	inside, err := sql.AddSQL01(l)
	if err != nil {
		return err
	}
	maps.Copy(env, inside)
	a.ui.Printf("# the laboratory runs until Ctrl-C; in another shell:\n")
	for _, name := range sortedNames(env) {
		a.ui.Printf("export %s='%s'\n", name, env[name])
	}
	a.ui.Printf("# the SQL Server: --instance %s\n", sql.Address())
	if err := a.ui.Result(struct {
		Env map[string]string `json:"env"`
		SQL sqlAccess         `json:"sql"`
	}{env, sqlAccess{sql.Address(), sql.User, sql.Password}}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// sqlAccess is how to reach the laboratory's SQL Server.
type sqlAccess struct {
	Address  string `json:"address"`
	User     string `json:"user"`
	Password string `json:"password"`
}

func sortedNames(env map[string]string) []string {
	var names []string
	for name := range env {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
