package decide

import (
	"fmt"
	"strconv"
	"strings"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
)

// say fills the words into a sentence. A name may hold anything, braces too: the
// sentence is read once, and what is put in is not read again.
func (s *state) say(sentence string) string {
	var out strings.Builder
	for {
		before, rest, open := strings.Cut(sentence, "{")
		out.WriteString(before)
		word, after, closed := strings.Cut(rest, "}")
		if !open || !closed {
			return out.String()
		}
		out.WriteString(s.word(word))
		sentence = after
	}
}

// word is one word of the sentences. Those that begin with a blank or a comma stand
// after another one and are empty if nothing is known.
func (s *state) word(name string) string {
	switch name {
	case "database":
		return s.db.Name
	case "instance":
		return s.in.Name
	case "version":
		return s.in.Version
	case "engine":
		return strconv.Itoa(s.in.Engine)
	case "state":
		return strings.ToLower(s.db.State)
	case "model":
		return s.db.Model
	case "fork":
		return s.db.Fork
	case "offline":
		return s.offlineFile()
	case "error":
		return s.errorWord()
	case "unconfirmed":
		return strconv.Itoa(len(s.unconfirmed()))
	case "session":
		return strconv.FormatInt(s.running("RESTORE").Session, 10)
	}
	return s.chainWord(name)
}

// errorWord is the number that goes with a state, or with a refusal.
func (s *state) errorWord() string {
	number := int(s.r.Failed)
	switch s.db.State {
	case "SUSPECT":
		number = 926
	case "EMERGENCY":
		number = 3033
	}
	if number == 0 {
		return ""
	}
	return fmt.Sprintf(" (SQL Server error %d)", number)
}

// chainWord is a word about what we hold.
func (s *state) chainWord(name string) string {
	switch name {
	case "full":
		return describe(s.full)
	case "base":
		return describe(s.policyFull())
	case "start":
		return describe(s.start)
	case "log":
		return describe(s.lastLog)
	case "previous":
		if s.continues() {
			return describe(s.lastLog)
		}
		return describe(s.start)
	case "ours":
		return s.ourEnd().String()
	case "server":
		return s.db.LastLog.String()
	case "baselsn":
		return s.db.BaseLSN.String()
	case "damage":
		return s.damage()
	case "nochanges":
		return s.say(s.noChanges())
	case "oldname":
		return s.full.Database
	case "revert":
		return s.revertWord()
	case "restore":
		return s.restoreWord()
	case "culprit":
		return s.who(s.foreignLog())
	case "otherfull":
		return s.who(s.foreignFull())
	case "files":
		return s.filesWord()
	}
	return s.policyWord(name)
}

func (s *state) policyWord(name string) string {
	switch name {
	case "days":
		days, _ := s.days(s.policyFull())
		return count(days, "day")
	case "fulldays":
		return count(s.r.FullDays, "day")
	case "age":
		if days, known := s.days(s.newestData()); known {
			return fmt.Sprintf(", %s after our newest data backup", count(days, "day"))
		}
		return ""
	case "volume":
		return s.narrow().Name
	case "free":
		return size(s.narrow().Available)
	case "least":
		return size(s.r.MinFree)
	}
	return "{" + name + "}"
}

// describe names a backup for people: its point and its time by the server's clock.
func describe(b *chain.Backup) string {
	if b == nil {
		return "(none)"
	}
	if b.Started.IsZero() {
		return string(b.Kind) + " " + b.Point
	}
	return fmt.Sprintf("%s %s of %s", b.Kind, b.Point, b.Started.Format("2006-01-02 15:04:05 -07:00"))
}

// who tells whose backup a row is of, as far as msdb knows.
func (s *state) who(r *chain.Row) string {
	if r == nil {
		return " (msdb does not say whose)"
	}
	var parts []string
	if s.anothers(r) {
		parts = append(parts, "of Holdfast, for another repository")
	} else if s.lost(r) {
		parts = append(parts, "of Holdfast, and not in this repository, or no more")
	}
	if r.Snapshot {
		parts = append(parts, "through VSS")
	}
	if r.User != "" {
		parts = append(parts, "by "+r.User)
	}
	if r.Machine != "" {
		parts = append(parts, "on "+r.Machine)
	}
	switch {
	case discarded(r.Device):
		parts = append(parts, "thrown away (to "+r.Device+")")
	case r.Device != "":
		parts = append(parts, "to "+r.Device)
	}
	if !r.Finished.IsZero() {
		parts = append(parts, "at "+r.Finished.Format("2006-01-02 15:04:05 -07:00"))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func (s *state) revertWord() string {
	switch {
	case s.revertedBase():
		return "its differential base is older than our newest full"
	case s.revertedLog():
		return fmt.Sprintf("its next log begins at %s, ours ended at %s", s.db.LastLog, s.lastLog.Last)
	case s.revertedHistory():
		return "msdb has lost our newest backup and kept older ones"
	case s.vanished() != nil && s.overhangs(s.vanished()):
		end, _ := lsn.Parse(s.db.LogEnd)
		return fmt.Sprintf("its log ends at %s, before our newest backup does", end)
	}
	return "msdb does not know our newest backup, and nothing else would show that it was made"
}

func (s *state) restoreWord() string {
	r := s.restored()
	if r == nil {
		return ""
	}
	if s.restoreLost() {
		return ", or msdb has lost the row of its newest one"
	}
	text := " at " + r.At.Format("2006-01-02 15:04:05 -07:00")
	if r.User != "" {
		text += " by " + r.User
	}
	return text
}

// filesWord lists what has changed about the files, each once.
func (s *state) filesWord() string {
	c := s.fileChanges()
	var parts []string
	seen := map[string]bool{}
	add := func(what string, names []string) {
		for _, n := range names {
			if text := n + " " + what; !seen[text] {
				seen[text] = true
				parts = append(parts, text)
			}
		}
	}
	add("added", c.Added)
	add("removed", c.Removed)
	add("renamed", c.Renamed)
	add("moved", c.Moved)
	add("shrunk", c.Shrunk)
	return strings.Join(parts, ", ")
}

// count is "1 day", "7 days".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// size is a number of bytes in MiB, rounded down.
func size(n int64) string { return strconv.FormatInt(n>>20, 10) + " MiB" }
