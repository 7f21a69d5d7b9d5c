package origin

import (
	"strings"

	"holdfast/sqlguest/plan"
)

// DatabaseFiles is the text of database_files.txt: which file is of which database of
// which instance, for somebody who attaches them by hand. UTF-8 with a byte order mark,
// for Windows; columns by tabs; a line a file.
func DatabaseFiles(server, database string, files []plan.Place) []byte {
	var b strings.Builder
	b.WriteString("\ufeffinstance\tdatabase\tfile\ttype\tpath\r\n")
	clean := strings.NewReplacer("\t", " ", "\r", " ", "\n", " ").Replace
	for _, f := range files {
		b.WriteString(strings.Join([]string{clean(server), clean(database), clean(f.File), f.Type.String(), clean(f.To)}, "\t") + "\r\n")
	}
	return []byte(b.String())
}
