package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"holdfast/repo/backend/local"
	"holdfast/repo/seal"
	"holdfast/sqlguest/plan"
)

// childVariable makes this program the second laboratory: its value is the directory
// with the repository and the tasks.
const childVariable = "HOLDFAST_TRIAL_CHILD"

func TestMain(m *testing.M) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		debug.SetGCPercent(400) // many small worlds, none for long
		os.Exit(m.Run())
	}
	if err := child(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// task is what the second process has to restore, and what it found then.
type task struct {
	Target plan.Target `json:"target"`
	Rows   rows        `json:"rows"`
	Refuse string      `json:"refuse,omitempty"`
}

// Where the tasks, the key and the repository lie.
const (
	tasksFile = "tasks.json"
	keyFile   = "key"
	repoDir   = "repository"
)

// child is the second process: a SQL Server of its own, the repository's files and its
// key are all that it has.
func child(ctx context.Context, dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, tasksFile)) //nolint:gosec // the parent's
	if err != nil {
		return err
	}
	var tasks []task
	if err := json.Unmarshal(raw, &tasks); err != nil {
		return err
	}
	w := newWorld(ctx, 99, map[string]int{}, mutant{})
	defer w.close()
	err = safely(func() { w.serve(dir, tasks) })
	if err != nil {
		return err
	}
	raw, err = json.Marshal(tasks)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(raw)
	return err
}

// serve restores what is asked for.
func (w *world) serve(dir string, tasks []task) {
	w.clock()
	var err error
	w.key, err = os.ReadFile(filepath.Join(dir, keyFile)) //nolint:gosec // the parent's
	w.must(err)
	w.secret, err = seal.ParseKeyFile(w.key)
	w.must(err)
	be, err := local.Open(w.ctx, filepath.Join(dir, repoDir), local.Options{})
	w.must(err)
	w.be, w.closers = be, append(w.closers, be.Close)
	o := w.other()
	for i := range tasks {
		done, err := w.restoring(o.sql, o.repo, o.ours, tasks[i].Target, plan.Options{As: fmt.Sprintf("restored %d", i)}).Do(w.ctx)
		if unreachable(err) != nil || isAmbiguous(err) {
			tasks[i].Refuse = err.Error()
			continue
		}
		w.must(err)
		tasks[i].Rows = w.selected(o.sql, done.Database)
	}
}

// TestSecondProcessNeedsTheRepositoryAlone: another process, with a SQL Server of its
// own, restores from the repository's files what the first had committed.
func TestSecondProcessNeedsTheRepositoryAlone(t *testing.T) {
	dir := t.TempDir()
	be, err := local.Create(t.Context(), filepath.Join(dir, repoDir), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t.Context(), 5, map[string]int{}, mutant{})
	w.be, w.closers = be, append(w.closers, be.Close)
	defer w.close()
	if err := safely(func() {
		w.start()
		for range 60 {
			w.step()
		}
		w.end()
	}); err != nil {
		t.Fatal(err)
	}
	tasks := w.tasks()
	got := runChild(t, dir, w.key, tasks)
	restored := 0
	for i, k := range w.here() {
		reachable := w.truths()[k]
		switch g := got[i]; {
		case g.Refuse != "" && reachable:
			t.Errorf("point %s: refused: %s", k.Point, g.Refuse)
		case g.Refuse == "" && !maps.Equal(g.Rows, k.rows):
			t.Errorf("point %s: rows %v, want %v", k.Point, slices.Sorted(maps.Keys(g.Rows)), slices.Sorted(maps.Keys(k.rows)))
		case g.Refuse == "":
			restored++
		}
	}
	if restored < 3 {
		t.Errorf("only %d points were restored: the test proves little\n%s", restored, w.show(plan.Plan{}))
	}
}

// tasks are the ends of all points.
func (w *world) tasks() (list []task) {
	for _, k := range w.here() {
		list = append(list, task{Target: plan.Target{Point: k.Point}})
	}
	return list
}

func runChild(t *testing.T, dir string, key []byte, tasks []task) (done []task) {
	t.Helper()
	raw, err := json.Marshal(tasks)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, tasksFile), raw, 0o600), os.WriteFile(filepath.Join(dir, keyFile), key, 0o600)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(os.Environ(), childVariable+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &done); err != nil {
		t.Fatal(err)
	}
	if len(done) != len(tasks) {
		t.Fatalf("%d of %d tasks", len(done), len(tasks))
	}
	return done
}
