package usage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// Manual writes one page a command, NAME-SUB.1, into dir and returns the files.
// version is that of the program.
func Manual(dir string, c *cobra.Command, version string) ([]string, error) {
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	file := filepath.Join(dir, name+".1")
	if err := os.WriteFile(file, manualPage(name, c, version), 0o644); err != nil {
		return nil, fmt.Errorf("write manual: %w", err)
	}
	files := []string{file}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		more, err := Manual(dir, sub, version)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

// manualPage is a command's help as roff. It bears no date: the same program
// writes the same bytes.
func manualPage(name string, c *cobra.Command, version string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"holdfast %s\" \"Holdfast manual\"\n", roff(strings.ToUpper(name)), roff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	for _, s := range Sections(c) {
		title := s.Title
		if title == "" {
			title = "DESCRIPTION"
		}
		fmt.Fprintf(&b, ".SH %s\n.nf\n", roff(title))
		for line := range strings.Lines(s.Text) {
			b.WriteString(roff(strings.TrimRight(line, "\n")) + "\n")
		}
		b.WriteString(".fi\n")
	}
	if parent := c.Parent(); parent != nil {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(strings.ReplaceAll(parent.CommandPath(), " ", "-")))
	}
	return []byte(b.String())
}

// roff protects what troff would take for itself: backslashes, hyphens that
// must stay hyphens when copied, and dots and quotes that begin a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
