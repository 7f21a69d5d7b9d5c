// Package sheet is the recovery sheet: what a stranger with it in his hand needs to
// restore, on one page.
package sheet

import (
	"fmt"
	"holdfast/repo"
	"strings"
	"time"
)

// Sheet is the result of key export.
type Sheet struct {
	Repository    string     `json:"repository"`
	Location      string     `json:"location"`
	FormatVersion int        `json:"format_version"`
	Made          time.Time  `json:"made"`
	Keys          []repo.Key `json:"keys"`
	Key           string     `json:"key,omitempty"`          // the id of the sheet's own
	RecoveryKey   []string   `json:"recovery_key,omitempty"` // its rows; not when the sheet is in Output
	Output        string     `json:"output,omitempty"`
}

// Text is the sheet as it is printed.
func (s *Sheet) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "HOLDFAST RECOVERY SHEET\n\n")
	if s.Key != "" {
		fmt.Fprintf(&b, "WHOEVER HOLDS THIS SHEET CAN READ THE WHOLE REPOSITORY. Keep it in a safe.\n\n")
	}
	fmt.Fprintf(&b, "Repository    %s\nPlace         %s\nFormat        version %d\nMade          %s\n", s.Repository, s.Location, s.FormatVersion, s.Made.Format(time.RFC3339))
	if s.Key != "" {
		fmt.Fprintf(&b, "\nRECOVERY KEY  %s\n\n", s.Key)
		for i, row := range s.RecoveryKey {
			fmt.Fprintf(&b, "    row %d:  %s\n", i+1, row)
		}
		fmt.Fprintf(&b, `
    Type the groups of the four rows (without "row 1:") into a text file, here
    typed.txt. Small letters, missing spaces and line ends do no harm; there is no
    letter O, I, L or U, only the digits 0 and 1. A mistyped row is told by number.
`)
	}
	option := ""
	if s.Key != "" {
		option = " --key-file typed.txt"
	}
	fmt.Fprintf(&b, `
TO RESTORE

    holdfast -r PLACE%[1]s points
    holdfast -r PLACE%[1]s restore disk POINT -o disk.raw
    holdfast -r PLACE%[1]s restore vm POINT

    PLACE is the place above, or wherever a copy of the repository lies now; for a
    bucket the access keys are needed as well. Any version of holdfast that knows the
    format above will do. The bytes are described in FORMAT.md of its sources.

KEYS WHEN THIS WAS MADE

`, option)
	for _, k := range s.Keys {
		fmt.Fprintf(&b, "    %s  %-8s  %s  %s\n", k.ID, k.KDF, k.Created.Format(time.DateOnly), k.Label)
	}
	if s.Key != "" {
		fmt.Fprintf(&b, "\nThis sheet is lost or seen by others: holdfast key remove %s, then holdfast key rotate.\n", s.Key[:6])
	}
	return b.String()
}
