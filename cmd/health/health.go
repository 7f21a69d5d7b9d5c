// Package health shows how whole a repository was found to be: each damaged object
// with the points that need it and whether it can be healed, a summary, and as an
// error with advice what that means for the run.
package health

import (
	"strings"

	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/ledger"
)

// Show prints what a check or scrub (that is what) found and returns the error that
// decides the exit code. sources says what each point is of, by its id.
func Show(to *ui.Terminal, what string, rep *repo.Report, sources map[string]string) error {
	points := 0 // that are lost themselves
	for _, f := range rep.Findings {
		manifest := f.Vanished || f.Lost && strings.HasPrefix(f.Object, ledger.Commits)
		if manifest {
			points++
		}
		state := "can be healed: holdfast scrub --heal"
		switch {
		case f.Healed:
			state = "healed"
		case f.Rebuild:
			state = "the index is made anew from the packs by: holdfast repair index"
		case manifest:
			state = "bring it back from a copy of the repository, or acknowledge the loss: holdfast forget ID"
		case f.Lost:
			state = "beyond repair"
		}
		to.Printf("%s: %s; %s\n", f.Object, f.What, state)
		for _, hit := range f.Hits {
			id, _, _ := strings.Cut(hit, "/")
			of := ""
			if sources[id] != "" {
				of = "  " + sources[id]
			}
			to.Printf("  needed by %s%s\n", hit, of)
		}
		if to.JSON() {
			to.Event("error", f)
		}
	}
	to.Say("%s: %d objects, %s; %d damaged, %d healed, %d beyond repair\n", what, rep.Objects, ui.Bytes(rep.Bytes), rep.Damaged, rep.Healed, rep.Errors)
	to.Event("summary", struct {
		*repo.Report
		Findings []repo.Finding `json:"findings"`
	}{rep, ui.OrEmpty(rep.Findings)})
	err := rep.Verdict()
	switch {
	case err == nil:
		return nil
	case rep.Errors == 0 && rep.Healed == rep.Damaged:
		return verdict.Advise(err, "all of it is mended; look at the health of the disks")
	case rep.Errors > 0 && points == rep.Errors:
		return verdict.Advise(err, "bring the object below commit/ back from a copy of the repository, or acknowledge the loss: holdfast forget ID")
	case rep.Errors > 0 && what == "check":
		return verdict.Advise(err, "what is named above cannot be restored whole, all else can; holdfast repair packs saves what is left of damaged packs, and after it the next backup of those sources stores anew what was lost")
	}
	return err
}
