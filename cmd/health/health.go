// Package health shows how whole a repository was found to be: each damaged object
// with the points that need it and whether it can be healed, a summary, and as an
// error with advice what that means for the run.
package health

import (
	"slices"
	"strings"

	"holdfast/cmd/ui"
	"holdfast/cmd/verdict"
	"holdfast/repo"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/repo/scrub"
)

// Found is what a check or scrub found.
type Found struct {
	*repo.Report
	Sources  map[string]string   // what each point is of, by its id
	Standing []recovery.Standing // points that cannot be restored without those that are hit
}

// Hit tells of points, by their ids, whether something that they need is lost.
func Hit(rep *repo.Report) func(id string) bool {
	hit := map[string]bool{}
	for _, f := range rep.Findings {
		for _, h := range f.Hits {
			id, _, _ := strings.Cut(h, "/")
			hit[id] = hit[id] || f.Lost && !f.Rebuild
		}
	}
	return func(id string) bool { return hit[id] }
}

// Show prints what a check or scrub (that is what) found and returns the error that
// decides the exit code.
func Show(to *ui.Terminal, what string, rep Found) error {
	for _, f := range rep.Findings {
		to.Printf("%s: %s; %s\n", f.Object, f.What, state(what, f))
		for _, hit := range f.Hits {
			if f.Vanished {
				break // it is the point itself
			}
			id, _, _ := strings.Cut(hit, "/")
			of := ""
			if rep.Sources[id] != "" {
				of = "  " + rep.Sources[id]
			}
			to.Printf("  needed by %s%s\n", hit, of)
		}
		if to.JSON() {
			to.Event("error", f)
		}
	}
	dependents := []string{}
	for _, s := range rep.Standing {
		to.Printf("not to be restored either: %s\n", s)
		dependents = append(dependents, s.Points...)
	}
	to.Say("%s: %d objects, %s; %d damaged, %d healed, %d beyond repair\n", what, rep.Objects, ui.Bytes(rep.Bytes), rep.Damaged, rep.Healed, rep.Errors)
	to.Event("summary", struct {
		*repo.Report
		Findings   []repo.Finding `json:"findings"`
		Dependents []string       `json:"dependents"`
	}{rep.Report, ui.OrEmpty(rep.Findings), dependents})
	return rep.verdict(what)
}

// isPoint reports whether a point is lost itself.
func isPoint(f repo.Finding) bool {
	return f.Vanished || f.Lost && strings.HasPrefix(f.Object, ledger.Commits)
}

// fromOther reports whether a copy was brought back from the other one.
func fromOther(f repo.Finding) bool { return strings.HasSuffix(f.What, scrub.OtherThere) }

// isLedger reports whether the newest entry of the ledger is lost.
func isLedger(f repo.Finding) bool {
	return f.Lost && strings.HasPrefix(ledger.TrueName(f.Object), ledger.Ledgers)
}

// state says what can be done about a finding.
func state(what string, f repo.Finding) string {
	switch {
	case f.Healed:
		return "healed"
	case f.Differs && f.Right != "":
		return "copy " + f.Right + " over it"
	case f.Differs && what == "scrub":
		return "which of the two is right takes a password: holdfast check"
	case f.Differs:
		return "make that key anew: holdfast key add, then holdfast key remove"
	case f.Idle:
		return "beyond repair, but nothing reads it any more: let it lie"
	case f.Rebuild:
		return "the index is made anew from the packs by: holdfast repair index"
	case isPoint(f) && len(f.Hits) > 0:
		return "bring it back from a copy of the repository, or acknowledge the loss: holdfast forget " + f.Hits[0]
	case isPoint(f):
		return "bring it back from a copy of the repository"
	case isLedger(f):
		return "bring it, or its spare, back from another copy of the repository"
	case f.Lost:
		return "beyond repair"
	}
	return "can be healed: holdfast scrub --heal"
}

// verdict is the error that decides the exit code, with what to do next.
func (rep Found) verdict(what string) error {
	points, differs := 0, slices.ContainsFunc(rep.Findings, func(f repo.Finding) bool { return f.Differs })
	for _, f := range rep.Findings {
		if isPoint(f) {
			points++
		}
	}
	err := rep.Verdict()
	switch {
	case err == nil:
		return nil
	case rep.Errors == 0 && differs:
		if what == "scrub" {
			return verdict.Advise(err, "two copies differ, and neither goes over the other, since either may be right: holdfast check, which has the password, tells which to copy; scrub --heal mends all else")
		}
		return verdict.Advise(err, "copy by hand what is named as right over the other, in a bucket with any tool for buckets; holdfast scrub --heal mends all else")
	case rep.Errors == 0 && rep.Healed == rep.Damaged && slices.ContainsFunc(rep.Findings, fromOther):
		return verdict.Advise(err, "all of it is mended, as far as checksums tell; holdfast check, which has the password, knows whether the copy that it came from is right. Look at the health of the disks")
	case rep.Errors == 0 && rep.Healed == rep.Damaged:
		return verdict.Advise(err, "all of it is mended; look at the health of the disks")
	case slices.ContainsFunc(rep.Findings, isLedger):
		return verdict.Advise(err, "bring what is named below ledger/, or spare/ledger/, back first, from another copy of the repository, or, if it is gone and there is none, run holdfast repair index: until then nothing can be written, and what else is named may be whole; everything restores, and holdfast copy saves it to a new repository")
	case rep.Errors > 0 && points == rep.Errors:
		return verdict.Advise(err, "bring the object below commit/ back from a copy of the repository, or acknowledge the loss: holdfast forget ID")
	case rep.Errors > 0 && what == "check":
		return verdict.Advise(err, rep.advice())
	}
	return err
}

// advice is what to do about data that is lost. What a database's full has lost no later
// backup stores anew: it is never the same bytes twice.
func (rep Found) advice() string {
	const advice = "what is named above cannot be restored whole, all else can; holdfast repair packs saves what is left of damaged packs, and after it the next backup of those sources stores anew what was lost"
	hit := Hit(rep.Report)
	for id, of := range rep.Sources {
		if hit(id) && strings.HasPrefix(of, "sql/") {
			return advice + ", but for databases: of these back up in full (holdfast backup sql --type full), and then give up what is lost and what stands on it: holdfast forget ID…"
		}
	}
	return advice
}
