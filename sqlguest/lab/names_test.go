package lab

import (
	"strings"
	"testing"
)

// TestNamesAreSysnames: 128 UTF-16 units; of a database whose log file is named after it
// 123.
func TestNamesAreSysnames(t *testing.T) {
	c := one(t, start(t, Options{Sample: true}))
	n := func(n int) string { return strings.Repeat("n", n) }
	file := func(name, at string) string { return "(NAME = " + name + ", FILENAME = 'C:\\Data\\" + at + "')" }
	for _, text := range []string{
		"CREATE DATABASE [" + n(124) + "]",
		"CREATE DATABASE [" + n(122) + "🎈]",
		"CREATE DATABASE [" + n(129) + "]",
		"CREATE DATABASE " + n(129),
		"ALTER DATABASE sales MODIFY NAME = [" + n(129) + "]",
		"ALTER DATABASE sales MODIFY FILE (NAME = sales, NEWNAME = [" + n(129) + "])",
		"CREATE DATABASE x ON " + file("N'"+n(129)+"'", "y.mdf") + " LOG ON " + file("l", "y.ldf"),
	} {
		fails(t, c, text, 103)
	}
	fails(t, c, "ALTER DATABASE sales MODIFY FILE (NAME = sales, NEWNAME = N'"+n(129)+"')", 103, 5069)
	fails(t, c, "ALTER DATABASE sales ADD FILE "+file("'"+n(129)+"'", "x.ndf"), 103, 5069)
	run(t, c, "CREATE DATABASE ["+n(123)+"]", "CREATE DATABASE ["+n(120)+"🎈]", "CREATE DATABASE ["+n(128)+"] ON "+file("d", "z.mdf")+" LOG ON "+file("l", "z.ldf"),
		"ALTER DATABASE sales MODIFY FILE (NAME = sales, NEWNAME = ["+n(128)+"])")
}
