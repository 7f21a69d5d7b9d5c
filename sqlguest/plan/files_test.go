package plan

import (
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/sqlguest/chain"
	"holdfast/sqlguest/lsn"
	"holdfast/sqlguest/plan/paths"
)

// placed are where the files of one full go.
func placed(t *testing.T, o Options, files ...chain.File) []string {
	t.Helper()
	a := set(chain.Full, "A", 100, 110, 0)
	a.Files = files
	p, err := Make(Target{}, []chain.Backup{a}, o)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range p.Files {
		list = append(list, f.To)
	}
	return list
}

// TestQ27FilesGetNamesOfTheirOwn where the plan chooses them.
func TestQ27FilesGetNamesOfTheirOwn(t *testing.T) {
	data := chain.File{ID: 1, Name: "d", Path: `D:\a\x.mdf`, Pages: 10}
	same := chain.File{ID: 3, Name: "e", Path: `E:\b\X.mdf`}
	log := chain.File{ID: 2, Type: 1, Name: "l", Path: `L:\x_log.ldf`}
	second := chain.File{ID: 4, Type: 1, Name: "m", Path: `L:\m.ldf`}
	long := strings.Repeat("ü", 128)
	for _, x := range []struct {
		name  string
		o     Options
		files []chain.File
		want  string
	}{
		{"where they were", Options{}, []chain.File{data, same, log}, `D:\a\x.mdf E:\b\X.mdf L:\x_log.ldf`},
		{"new name, old directories", Options{As: "n"}, []chain.File{data, log, same}, `D:\a\n.mdf L:\n_log.ldf E:\b\n_3.mdf`},
		{"two of one name in one directory", Options{DataDir: `F:\`, LogDir: `G:\`}, []chain.File{data, same, log}, `F:\x.mdf F:\X_3.mdf G:\x_log.ldf`},
		{"on Linux", Options{As: "n", DataDir: "/d/", LogDir: "/l"}, []chain.File{data, log, second}, `/d/n.mdf /l/n_log.ldf /l/n_4.ldf`},
		{"what others have is avoided", Options{As: "n", DataDir: `F:\`, Taken: map[string]bool{`f:\n.mdf`: true, `f:\n_1.mdf`: true}}, []chain.File{data}, `F:\n_1_2.mdf`},
		{"what was said is not", Options{As: "n", DataDir: `F:\`, Moves: map[string]string{"D": `F:\n.mdf`}, Taken: map[string]bool{`f:\n.mdf`: true}}, []chain.File{data}, `F:\n.mdf`},
		{"a device of Windows", Options{As: "com1", DataDir: `F:\`}, []chain.File{data}, `F:\_com1.mdf`},
		{"nothing but dots", Options{As: " .. ", DataDir: `F:\`}, []chain.File{data}, `F:\_.mdf`},
		{"what no path may have", Options{As: `a<b>c:d"e/f\g|h?i*j` + "\t", DataDir: `F:\`}, []chain.File{data}, `F:\a_b_c_d_e_f_g_h_i_j_.mdf`},
		{"no extension", Options{As: "n", DataDir: `F:\`}, []chain.File{{ID: 1, Name: "d", Path: `D:\plain`}}, `F:\n`},
		{"dropped files", Options{}, []chain.File{data, {ID: 9, Name: "gone", Path: `D:\gone.ndf`, Drop: l(5)}}, `D:\a\x.mdf`},
	} {
		if got := strings.Join(placed(t, x.o, x.files...), " "); got != x.want {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
	}
	dir := `D:\` + strings.Repeat("d", 150) + `\`
	cut := placed(t, Options{As: long, DataDir: dir, LogDir: dir}, data, log, same)
	for i, p := range cut {
		if n := utf8.RuneCountInString(p); n > paths.Longest {
			t.Errorf("%s has %d characters", p, n)
		}
		for _, q := range cut[:i] {
			if strings.EqualFold(p, q) {
				t.Errorf("%s twice", p)
			}
		}
	}
	other := placed(t, Options{As: long + "b", DataDir: dir, LogDir: dir}, data)
	if other[0] == cut[0] {
		t.Errorf("two databases have %s", other[0])
	}
}

// TestContinuedRestorePlacesNewFilesAlone: those that the database has stay.
func TestContinuedRestorePlacesNewFilesAlone(t *testing.T) {
	a := set(chain.Full, "A", 100, 110, 0)
	log := set(chain.Log, "L", 100, 300, 20)
	log.Files = []chain.File{{ID: 1, GUID: "G1", Name: "d", Path: `D:\d.mdf`}, {ID: 3, GUID: "G3", Name: "new", Path: `D:\n.ndf`, Pages: 2}}
	p, err := Make(Target{}, []chain.Backup{a, log}, Options{As: "n", DataDir: `E:\`, Standing: &Standing{Redo: l(110), Fork: "F1", Files: []chain.File{{ID: 1, GUID: "G1", Name: "d", Path: `E:\n_3.ndf`}}}})
	if err != nil || len(p.Steps) != 2 || len(p.Files) != 1 || p.Files[0].To != `E:\n_3_3.ndf` || p.Files[0].Bytes != 2*pageBytes || len(p.Steps[0].Moves) != 1 {
		t.Errorf("%+v %v", p, err)
	}
}

// TestTailThatIsToBeTakenLeadsOn: to the latest moment and to a time behind the last log.
func TestTailThatIsToBeTakenLeadsOn(t *testing.T) {
	a := set(chain.Full, "A", 100, 110, 0)
	tail := set(chain.Log, TailPoint, 110, 120, 20)
	tail.Last = lsn.Max
	for _, x := range []Target{{}, clockAt(15, 0, 0)} {
		p, err := Make(x, []chain.Backup{a, tail}, Options{Tail: true, Kick: true})
		if err != nil || !p.Again || !p.Kicks() || p.Steps[1].Do != DoTail || p.Steps[3].Point != TailPoint {
			t.Errorf("%s: %+v %v", x, p, err)
		}
		if tail, finish := p.Steps[3], p.Steps[4]; tail.Before != a.Last || !tail.After.IsZero() || !finish.Before.IsZero() || !finish.After.IsZero() {
			t.Errorf("%s: LSNs are told that nobody knows yet: %+v, %+v", x, tail, finish)
		}
		if got := p.Steps[3].SQL(); !strings.HasPrefix(got, "RESTORE LOG [sales] FROM {stream-0 of tail} WITH") {
			t.Error(got)
		}
	}
	if _, err := Make(clockAt(59, 0, 0), []chain.Backup{a, tail}, Options{Tail: true}); err == nil || !strings.Contains(err.Error(), "nearest before: what the database holds now") {
		t.Error(err)
	}
}
