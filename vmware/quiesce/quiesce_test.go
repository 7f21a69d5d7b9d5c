package quiesce

import (
	"archive/zip"
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"pgregory.net/rapid"

	"holdfast/repo/recovery"
)

// V21: what a guest can give, by its kind.
func TestV21GuestFamilies(t *testing.T) {
	for guest, want := range map[string]Family{
		"winXPProGuest": WindowsFiles, "win2000ServGuest": WindowsFiles, "winVista64Guest": WindowsFiles, "windows7_64Guest": WindowsFiles,
		"windows9_64Guest": WindowsFiles, "windows11_64Guest": WindowsFiles,
		"winNetEnterpriseGuest": WindowsApps, "winLonghorn64Guest": WindowsApps, "windows7Server64Guest": WindowsApps,
		"windows8Server64Guest": WindowsApps, "windows9Server64Guest": WindowsApps, "windows2019srv_64Guest": WindowsApps, "windows2022srvNext_64Guest": WindowsApps,
		"ubuntu64Guest": Linux, "rhel9_64Guest": Linux, "other5xLinux64Guest": Linux, "sles15_64Guest": Linux, "debian12_64Guest": Linux,
		"freebsd13_64Guest": Unknown, "otherGuest64": Unknown, "": Unknown, "solaris11_64Guest": Unknown,
	} {
		if got := FamilyOf(guest); got != want {
			t.Errorf("%s is %d, want %d", guest, got, want)
		}
	}
}

func server() Facts {
	return Facts{On: true, ToolsRunning: true, ToolsVersion: 12352, Guest: "windows2019srv_64Guest", EnableUUID: true}
}

func levels(p Plan) string {
	out := ""
	for _, s := range p.Steps {
		out += s.Level[:1]
	}
	return out
}

func TestLadder(t *testing.T) {
	for _, c := range []struct {
		name, want, steps, rule string
		change                  func(*Facts)
		downgraded              bool // when the first step works
	}{
		{"a server with everything", recovery.Application, "afc", "", func(*Facts) {}, false},
		{"file systems wanted", recovery.FileSystem, "fc", "", func(*Facts) {}, false},
		{"nothing wanted", recovery.Crash, "c", "", func(*Facts) {}, false},
		{"V28", recovery.Application, "fc", "V28", func(f *Facts) { f.EnableUUID = false }, true},
		{"V32 IDE", recovery.Application, "fc", "V32", func(f *Facts) { f.IDE = true }, true},
		{"V32 slots", recovery.Application, "fc", "V32", func(f *Facts) { f.ScarceSlots = true }, true},
		{"V22 old tools", recovery.Application, "fc", "V22", func(f *Facts) { f.ToolsVersion = 10271 }, true},
		{"V22 encrypted", recovery.Application, "fc", "V22", func(f *Facts) { f.Encrypted = true }, true},
		{"no tools", recovery.Application, "c", "V21", func(f *Facts) { f.ToolsRunning = false }, true},
		{"powered off", recovery.Application, "c", "V21", func(f *Facts) { f.On = false }, false},
		{"Linux", recovery.Application, "fc", "V21", func(f *Facts) { f.Guest = "ubuntu64Guest" }, false},
		{"client", recovery.Application, "fc", "", func(f *Facts) { f.Guest = "windows9_64Guest" }, false},
		{"unknown", recovery.Application, "cc", "V21", func(f *Facts) { f.Guest = "freebsd13_64Guest" }, true},
	} {
		f := server()
		c.change(&f)
		p := Decide(c.want, f, 0)
		if levels(p) != c.steps || p.Downgraded(p.Steps[0].Level) != c.downgraded {
			t.Errorf("%s: steps %s, downgraded %v", c.name, levels(p), p.Downgraded(p.Steps[0].Level))
		}
		if (c.rule != "") != (len(p.Findings) > 0) || c.rule != "" && p.Findings[0].Rule != c.rule {
			t.Errorf("%s: findings %v", c.name, p.Findings)
		}
	}
}

// V33, X6: whatever is asked, VSS is told COPY, and the guest's time stays in
// the bounds that vSphere accepts (V30).
func TestV33EverySpecIsACopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := server()
		f.EnableUUID, f.IDE, f.On = rapid.Bool().Draw(t, "uuid"), rapid.Bool().Draw(t, "ide"), rapid.Bool().Draw(t, "on")
		f.Guest = rapid.SampledFrom([]string{"windows2019srv_64Guest", "windows9_64Guest", "ubuntu64Guest", "x"}).Draw(t, "guest")
		want := rapid.SampledFrom([]string{recovery.Application, recovery.FileSystem, recovery.Crash}).Draw(t, "want")
		p := Decide(want, f, time.Duration(rapid.Int64Range(0, int64(9*time.Hour)).Draw(t, "timeout")))
		if last := p.Steps[len(p.Steps)-1]; last.Spec != nil {
			t.Fatal("the last step asks the guest, which may refuse")
		}
		for _, s := range p.Steps {
			if s.Spec == nil {
				continue
			}
			if m := s.Spec.GetVirtualMachineGuestQuiesceSpec().Timeout; m < 5 || m > 240 {
				t.Fatalf("timeout of %d minutes", m)
			}
			if w, ok := s.Spec.(*types.VirtualMachineWindowsQuiesceSpec); ok && w.VssBackupType != 5 {
				t.Fatalf("VSS backup type %d", w.VssBackupType)
			}
			if Rank(s.Level) > Rank(want) {
				t.Fatalf("%s was tried for %s", s.Level, want)
			}
		}
	})
}

func archive(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		f, err := z.Create(files[i])
		if err == nil {
			_, err = f.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	components = `<?xml version="1.0"?><BACKUP_COMPONENTS version="1.2"/>`
	writer     = `<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo"/>`
)

func utf16(s string) string {
	b := []byte{0xff, 0xfe}
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return string(b)
}

// V26.
func TestManifestTellsAppFromFS(t *testing.T) {
	for _, c := range []struct {
		name, level string
		files       []string
	}{
		{"components alone", recovery.FileSystem, []string{"bcd.xml", components}},
		{"with writers", recovery.Application, []string{"bcd.xml", components, "writer0.xml", writer, "writer1.xml", writer}},
		{"UTF-16", recovery.Application, []string{"bcd.xml", utf16(components), "w.xml", utf16(writer)}},
		{"with a note", recovery.FileSystem, []string{"bcd.xml", components, "readme.txt", "hello"}},
		{"without components", "", []string{"writer0.xml", writer}},
		{"empty", "", nil},
	} {
		level, _, err := ReadManifest(archive(t, c.files...))
		if level != c.level || (err != nil) != (c.level == "") || err != nil && !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %q, %v", c.name, level, err)
		}
	}
}

func TestV26Reached(t *testing.T) {
	app, fs := Step{recovery.Application, windows("ctx_backup", 15)}, Step{recovery.FileSystem, windows("ctx_file_share_backup", 15)}
	for _, c := range []struct {
		step     Step
		family   Family
		manifest string
		want     string
	}{
		{app, WindowsApps, recovery.Application, recovery.Application},
		{app, WindowsApps, recovery.FileSystem, recovery.FileSystem},
		{app, WindowsApps, "", recovery.Crash},
		{fs, WindowsFiles, recovery.FileSystem, recovery.FileSystem},
		{fs, WindowsFiles, "", recovery.Crash},
		{fs, Linux, "", recovery.FileSystem},
		{fs, Unknown, "", recovery.Crash},
		{Step{Level: recovery.Crash}, Linux, "", recovery.Crash},
	} {
		if got, why := Reached(c.step, c.family, c.manifest); got != c.want || why == "" {
			t.Errorf("%+v: %s (%s)", c, got, why)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(archive(f, "bcd.xml", components, "writer0.xml", writer))
	f.Add(archive(f, "bcd.xml", utf16(components)))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, b []byte) {
		level, writers, err := ReadManifest(b)
		if err == nil && (level == recovery.Application) != (writers > 0) {
			t.Fatalf("%s with %d writers", level, writers)
		}
	})
}
