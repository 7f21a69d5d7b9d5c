package repo_test

// The repositories below testdata/v1 were written once and must stay readable
// for ever, by every later version on every platform. A change to these files is
// a change of the format: it needs a new version in FORMAT.md, a new directory
// beside v1, and both must be read from then on. That is why -update only makes
// what is not there and never writes over anything.

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/blob"
	"holdfast/repo/chunk"
	"holdfast/repo/image"
	"holdfast/repo/ledger"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
	"holdfast/repo/stream"
)

var update = flag.Bool("update", false, "make golden files that are not there")

var goldenDir = filepath.Join("testdata", "v1")

// goldenProfiles are the repositories, one for each level of parity.
var goldenProfiles = []string{"standard", "strong", "off"}

// seeded is a source of the same bytes each time.
func seeded(words ...uint64) *mrand.ChaCha8 {
	var seed [32]byte
	for i, w := range words {
		binary.LittleEndian.PutUint64(seed[8*i:], w)
	}
	return mrand.NewChaCha8(seed)
}

// goldenPassword and goldenKeyFile open every golden repository.
const goldenPassword = "golden pässword"

func goldenSecrets(t testing.TB) (password, file seal.Secret) {
	t.Helper()
	text, err := seal.NewKeyFile(seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	if file, err = seal.ParseKeyFile(text); err != nil {
		t.Fatal(err)
	}
	if password, err = seal.NewPassword([]byte(goldenPassword)); err != nil {
		t.Fatal(err)
	}
	return password, file
}

// goldenDisk is the disk of a generation: text, noise, zeros, a run of one byte,
// and a last chunk that is cut short. Generations differ in one chunk.
func goldenDisk(generation uint64) []byte {
	data := make([]byte, 7*testChunk+testChunk/2)
	copy(data, goldenText(generation, testChunk))
	seeded(7).Read(data[testChunk : testChunk+testChunk/2]) // the same in all of them
	for i := range testChunk {
		data[4*testChunk+i] = 'x'
	}
	copy(data[7*testChunk:], goldenText(3, testChunk/2))
	return data
}

// goldenText compresses well, has no repeats, and is cut by content.
func goldenText(seed uint64, size int) []byte {
	rng := mrand.New(seeded(seed, 2))
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "row %08x %s\n", rng.Uint64(), strings.Repeat(".", 400))
	}
	return b.Bytes()[:size]
}

// goldenItems are the contents of a point's items, by name.
func goldenItems(generation uint64) map[string][]byte {
	return map[string][]byte{
		"disk-0": goldenDisk(generation),
		"disk-1": make([]byte, 3*testChunk),
		"text":   append(fmt.Appendf(nil, "of generation %d\n", generation), goldenText(100, 250<<10)...),
		"empty":  {},
		"config": []byte(fmt.Sprintf("generation %d", generation)),
	}
}

// storeDisk stores content as a disk, against the parent's map if there is one.
func storeDisk(ctx context.Context, store image.Store, loader image.Loader, parent *image.Map, data []byte) (image.Map, error) {
	b, err := image.NewBuilder(store, loader, parent, int64(len(data)), testChunk)
	if err != nil {
		return image.Map{}, err
	}
	zero := make([]byte, testChunk)
	for i := 0; i*testChunk < len(data); i++ {
		piece := make([]byte, testChunk)
		copy(piece, data[i*testChunk:])
		var id blob.ID // of zeros, at any level
		if !bytes.Equal(piece, zero) {
			if id, err = store.Put(ctx, blob.DiskChunk, piece); err != nil {
				return image.Map{}, err
			}
		}
		if err := b.Set(ctx, int64(i), id); err != nil {
			return image.Map{}, err
		}
	}
	return b.Finish(ctx)
}

// goldenPoint makes a point of source and generation in a repository.
func goldenPoint(ctx context.Context, r *repo.Repository, c *clock, source string, generation uint64) (*recovery.Point, error) {
	s, err := r.Begin(ctx, source, "identity of "+source)
	if err != nil {
		return nil, err
	}
	p := &recovery.Point{
		Kind: recovery.VM, Source: source, Identity: "identity of " + source, Time: c.Now(), ReadMode: recovery.ReadAllocated,
		Reason: "for the record", Consistency: recovery.Application, Tags: []string{strconv.FormatUint(generation, 10)},
		Warnings: []string{"a wärning"}, Attrs: json.RawMessage(`{"uuid":"4213"}`),
	}
	var parent *image.Map
	if s.Parent() != nil {
		p.Parent, parent = s.Parent().ID, s.Parent().Item("disk-0").Disk
	}
	contents := goldenItems(generation)
	for _, name := range []string{"disk-0", "disk-1", "text", "empty", "config"} {
		item := recovery.Item{Name: name, Bytes: int64(len(contents[name]))}
		var st stream.Stream
		var m image.Map
		switch name {
		case "disk-0", "disk-1":
			m, err = storeDisk(ctx, s, r, parent, contents[name])
			item.Disk, parent = &m, nil
		case "config":
			item.Inline = contents[name]
		default:
			st, err = stream.Write(ctx, s, chunk.New(bytes.NewReader(contents[name]), r.CDCKey(), chunk.SQL()), stream.Options{})
			item.Stream = &st
		}
		if err != nil {
			s.Abort()
			return nil, err
		}
		p.Items, p.BytesTotal = append(p.Items, item), p.BytesTotal+item.Bytes
	}
	if err := s.Flush(ctx); err != nil {
		s.Abort()
		return nil, err
	}
	p.Finished, p.BytesAdded, p.ChunksNew = c.Now(), s.Stats().BytesAdded, s.Stats().ChunksNew
	return p, s.Commit(ctx, p)
}

// makeGolden lives (but for the ephemeral keys of a rotation, with the same bytes
// each time) the life of a repository: keys come and go, points are made,
// labelled and forgotten, a prune runs, the root is rotated, and a session is
// left behind unfinished.
func makeGolden(t *testing.T, profile string) *mem.Backend {
	t.Helper()
	ctx, c, be := t.Context(), newClock(), mem.New()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	password, file := goldenSecrets(t)
	opts := repo.Options{Now: c.Now, Rand: seeded(uint64(slices.Index(goldenProfiles, profile)), 1), Host: "golden", Program: "holdfast 1", PID: 1}
	r := initAt(t, be, repo.InitParams{Parity: profile, Keys: []repo.NewKey{
		{Secret: password, KDF: seal.KDF{Time: 1, MemoryKiB: 8 << 10, Threads: 1}, Label: "a pässword"}, {Secret: file, Label: "a key file"},
	}}, opts)
	for generation := range uint64(2) {
		_, err := goldenPoint(ctx, r, c, "vm/web01", generation)
		must(err)
	}
	labelled, err := r.Find(ctx, "latest:vm/web01")
	must(err)
	must(r.SetLabel(ctx, labelled, func(l *ledger.Label) { l.Tags, l.Pinned = append(l.Tags, "kept"), true }))
	dropped := func() {
		_, err := goldenPoint(ctx, r, c, "vm/gone", 9)
		must(err)
		e, err := r.Find(ctx, "latest:vm/gone")
		must(err)
		must(r.Forget(ctx, e, "to have something to prune"))
	}
	dropped()
	_, err = r.Prune(ctx, repo.PruneOptions{})
	must(err)
	dropped() // this one is still there
	if profile == "standard" {
		text, err := seal.NewKeyFile(seeded(8))
		must(err)
		lost, err := seal.ParseKeyFile(text)
		must(err)
		third, err := r.AddKey(ctx, repo.NewKey{Secret: lost})
		must(err)
		_, err = r.RemoveKey(ctx, third)
		must(err)
		_, err = r.RotateKeys(ctx)
		must(err)
	}
	_, err = goldenPoint(ctx, r, c, "vm/web01", 2)
	must(err)
	unfinished, err := r.Begin(ctx, "vm/later", "later")
	must(err)
	_, err = unfinished.Put(ctx, blob.DiskChunk, []byte("of a backup that was killed"))
	must(err)
	must(unfinished.Flush(ctx))
	return be
}

// TestGoldenRepositoriesAreThere makes those that are missing, with -update.
func TestGoldenRepositoriesAreThere(t *testing.T) {
	for _, profile := range goldenProfiles {
		path := filepath.Join(goldenDir, profile+".zip")
		if _, err := os.Stat(path); err == nil {
			continue
		} else if !*update {
			t.Fatalf("%v; it is the witness of a format that was released: bring it back", err)
		}
		be := makeGolden(t, profile)
		password, _ := goldenSecrets(t)
		compareGolden(t, profile+".txt", describe(t, openAt(t, be, password)))
		if err := os.WriteFile(path, packed(t, be), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// packed is a store as a zip archive, which no checkout alters.
func packed(t *testing.T, be backend.Backend) []byte {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, name := range names(t, be, "") {
		w, err := archive.Create(name)
		if err == nil {
			_, err = w.Write(object(t, be, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// compareGolden compares text with a file below v1, or makes the file.
func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join(goldenDir, file)
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		if err = os.MkdirAll(goldenDir, 0o755); err == nil {
			want, err = []byte(got), os.WriteFile(path, []byte(got), 0o644)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(string(want), "\r\n", "\n"); text != got { // git may have turned the line ends
		t.Errorf("%s differs: the format has changed, or what is read from it. It was\n%s\nand is\n%s", path, text, got)
	}
}

// loadGolden is a copy of a golden repository, in memory.
func loadGolden(t *testing.T, profile string) *mem.Backend {
	t.Helper()
	archive, err := zip.OpenReader(filepath.Join(goldenDir, profile+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	be := mem.New()
	for _, f := range archive.File {
		data, err := fs.ReadFile(archive, f.Name)
		if err == nil {
			err = be.Put(t.Context(), f.Name, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return be
}

// describe tells of every point and item what an operator relies on.
func describe(t *testing.T, r *repo.Repository) string {
	t.Helper()
	entries, problems, err := r.Points(t.Context())
	if err != nil || len(problems) > 0 {
		t.Fatalf("points: %v %v", err, problems)
	}
	var b strings.Builder
	cfg := r.Config()
	fmt.Fprintf(&b, "repository %s version %d parity %s chunk %d epoch %d\n", cfg.ID, cfg.Version, cfg.Parity, cfg.DiskChunkBytes, r.Epoch())
	for _, e := range entries {
		fmt.Fprintf(&b, "point %s parent %q previous %q %s %s %q at %s, finished %s, %d bytes, %s, %s: %s, by %s on %s, tags %v, pinned %v, attrs %s, warnings %q\n",
			e.ID, e.Parent, e.Previous, e.Kind, e.Source, e.Identity, e.Time.Format(time.RFC3339), e.Finished.Format(time.RFC3339), e.BytesTotal,
			e.Consistency, e.ReadMode, e.Reason, e.Program, e.Host, e.Tags, e.Pinned, e.Attrs, e.Warnings)
		for _, item := range e.Items {
			fmt.Fprintf(&b, "  %s %d bytes\n", item.Name, item.Bytes)
		}
	}
	return b.String()
}

// bytesOf brings one item back.
func bytesOf(t *testing.T, r *repo.Repository, item recovery.Item) []byte {
	t.Helper()
	switch {
	case item.Disk != nil:
		got := make([]byte, item.Bytes)
		err := image.Copy(t.Context(), r, *item.Disk, image.CopyOptions{}, func(off int64, data []byte) error {
			copy(got[off:], data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	case item.Stream != nil:
		in := stream.Open(t.Context(), r, *item.Stream)
		defer in.Close()
		got, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	return item.Inline
}

// wantGoldenPoints restores every item of every point.
func wantGoldenPoints(t *testing.T, r *repo.Repository, points int) {
	t.Helper()
	entries, _, err := r.Points(t.Context())
	if err != nil || len(entries) != points {
		t.Fatalf("%d points, want %d: %v", len(entries), points, err)
	}
	for _, e := range entries {
		generation, err := strconv.ParseUint(e.Point.Tags[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		want := goldenItems(generation)
		if len(e.Items) != len(want) {
			t.Errorf("point %s has %d items, want %d", e.ID, len(e.Items), len(want))
		}
		for _, item := range e.Items {
			if !bytes.Equal(bytesOf(t, r, item), want[item.Name]) {
				t.Errorf("%s of point %s came back different", item.Name, e.ID)
			}
		}
	}
}

// TestRepositoriesOfVersion1OpenForEver: every key opens them, every item comes
// back, nothing is found wrong, and work goes on in them.
func TestRepositoriesOfVersion1OpenForEver(t *testing.T) {
	password, file := goldenSecrets(t)
	for _, profile := range goldenProfiles {
		for name, secret := range map[string]seal.Secret{"password": password, "key file": file} {
			t.Run(profile+" "+name, func(t *testing.T) {
				be := loadGolden(t, profile)
				r := openAt(t, be, secret)
				compareGolden(t, profile+".txt", describe(t, r))
				wantGoldenPoints(t, r, 3)
				wantVerdict(t, check(t, r), nil)
				wantVerdict(t, scrub(t, be, false), nil)
				goOnIn(t, be, secret)
			})
		}
	}
}

// goOnIn makes more points in a copy of a golden repository, under a new root,
// too, and prunes it.
func goOnIn(t *testing.T, be backend.Backend, secret seal.Secret) {
	t.Helper()
	r, c := openAt(t, be, secret), newClock()
	packs := len(names(t, be, "data/"))
	same, err := goldenPoint(t.Context(), r, c, "vm/web01", 2)
	if err != nil {
		t.Fatal(err)
	}
	if same.ChunksNew != 0 || len(names(t, be, "data/")) != packs {
		t.Errorf("%d chunks of content that is there were stored again: ids, or cuts, have changed", same.ChunksNew)
	}
	if same.Parent == "" {
		t.Error("the point before was not taken for a parent")
	}
	if fresh, err := goldenPoint(t.Context(), r, c, "vm/web01", 3); err != nil || fresh.ChunksNew == 0 {
		t.Fatalf("%+v, %v", fresh, err)
	}
	if done, err := r.RotateKeys(t.Context()); err != nil || len(done.Keys) != 2 || len(done.LeftOut) != 0 {
		t.Fatalf("rotate: %+v, %v", done, err)
	}
	if _, err := goldenPoint(t.Context(), r, c, "vm/web01", 4); err != nil {
		t.Fatal(err)
	}
	for range 3 { // what is condemned goes with a later prune
		if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	again := openAt(t, be, secret)
	wantGoldenPoints(t, again, 6)
	wantVerdict(t, check(t, again), nil)
}
