package restore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"holdfast/repo/backend"
	"holdfast/repo/backend/fault"
	"holdfast/repo/pack"
	"holdfast/repo/recovery"
	"holdfast/restore"
)

var (
	errWrite = errors.New("write refused")
	opts     = restore.Options{Now: clock}
)

// plain is a format of its own: the disk behind a header, as a stream.
func plain() *restore.Format {
	const header = 100
	return &restore.Format{
		Name: "plain",
		Encode: func(ctx context.Context, w io.Writer, src restore.Disk) error {
			if _, err := w.Write(make([]byte, header)); err != nil {
				return err
			}
			ahead, done, err := src.Sequential(ctx)
			if err != nil {
				return err
			}
			defer done()
			_, err = io.Copy(w, io.NewSectionReader(ahead, 0, src.Size()))
			return err
		},
		Decode: func(f *os.File, size int64) (io.ReaderAt, int64, error) {
			return io.NewSectionReader(f, header, size-header), size - header, nil
		},
	}
}

func TestDiskComesBackAsAFile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, size := range []int{0, 1, 511, chunkBytes, chunkBytes + 1, 40*chunkBytes - 512, 300*chunkBytes + 77} {
		v := newVault(t, size)
		for how, target := range map[string]restore.FileTarget{"sparse": {Sparse: true}, "full": {}, "format": {Format: plain()}, "over": {Overwrite: true}} {
			dir := t.TempDir()
			target.Path = filepath.Join(dir, "disk.raw")
			want := v.data
			switch how {
			case "over":
				if err := os.WriteFile(target.Path, bytes.Repeat([]byte("old"), size), 0o600); err != nil {
					t.Fatal(err)
				}
			case "format":
				want = append(make([]byte, 100), v.data...)
			}
			res, err := restore.Run(t.Context(), v.r, v.point, v.disk(), &target, opts)
			if err != nil || res.BytesWritten != int64(size) || res.Verified["disk-2000"] != "read back" || res.Items != 1 {
				t.Fatalf("%d bytes, %s: %+v %v", size, how, res, err)
			}
			wantFile(t, target.Path, want)
			if left := files(t, dir); len(left) != 1 {
				t.Errorf("%d bytes, %s: left %v", size, how, left)
			}
		}
	}
}

func TestFileTargetRefuses(t *testing.T) {
	v := newVault(t, 3*chunkBytes)
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		path  string
		items []recovery.Item
		want  error
	}{
		"a file that exists": {there, v.disk(), restore.ErrFileExists}, "no folder": {filepath.Join(dir, "none", "x"), v.disk(), os.ErrNotExist},
		"two items": {filepath.Join(dir, "x"), v.point.Items[:2], restore.ErrItem}, "a stream": {filepath.Join(dir, "x"), v.point.Items[1:2], restore.ErrItem},
	} {
		if res, err := restore.Run(t.Context(), v.r, v.point, c.items, &restore.FileTarget{Path: c.path}, opts); res != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %+v %v", what, res, err)
		}
	}
	// A folder is not replaced, whatever is asked.
	if err := os.MkdirAll(filepath.Join(dir, "folder", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := restore.Run(t.Context(), v.r, v.point, v.disk(), &restore.FileTarget{Path: filepath.Join(dir, "folder"), Overwrite: true}, opts); err == nil {
		t.Error("a folder was replaced")
	}
	wantFile(t, there, []byte("mine"))
	if left := files(t, dir); !slices.Equal(left, []string{"folder", "there"}) {
		t.Errorf("left %v", left)
	}
}

// TestEveryWriteThatFailsLeavesNothing fails the n-th write of the target, for
// every n, with and without a file of that name before.
func TestEveryWriteThatFailsLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	v := newVault(t, 9*chunkBytes+5)
	for n := 1; ; n++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "disk")
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		format, failed := plain(), false
		encode := format.Encode
		format.Encode = func(ctx context.Context, w io.Writer, src restore.Disk) error {
			left := n
			return encode(ctx, writerFunc(func(p []byte) (int, error) {
				if left--; left == 0 {
					failed = true
					half, _ := w.Write(p[:len(p)/2])
					return half, errWrite
				}
				return w.Write(p)
			}), src)
		}
		_, err := restore.Run(t.Context(), v.r, v.point, v.disk(), &restore.FileTarget{Path: path, Format: format, Overwrite: true}, opts)
		if left := files(t, dir); len(left) != 1 {
			t.Fatalf("write %d: left %v", n, left)
		}
		if !failed {
			if n < 5 || err != nil {
				t.Errorf("only %d writes: %v", n, err)
			}
			return
		}
		if !errors.Is(err, errWrite) {
			t.Fatalf("write %d: %v", n, err)
		}
		wantFile(t, path, []byte("mine"))
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestEveryReadThatFailsLeavesNothing fails each read of the repository.
func TestEveryReadThatFailsLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	v := newVault(t, 300*chunkBytes)
	for n := 0; ; n++ {
		dir := t.TempDir()
		be := fault.New(v.be, fault.Options{Rules: []fault.Rule{
			{Op: fault.Get, Prefix: "data/", Skip: n, Err: backend.ErrUnreachable}, {Op: fault.Get, Prefix: "meta/", Skip: n, Err: backend.ErrUnreachable},
		}})
		_, err := restore.Run(t.Context(), v.open(t, be), v.point, v.disk(), &restore.FileTarget{Path: filepath.Join(dir, "disk"), Sparse: n%2 == 0}, opts)
		left := files(t, dir)
		if err == nil {
			if n < 2 || len(left) != 1 {
				t.Errorf("after %d reads: %v", n, left)
			}
			return
		}
		if !errors.Is(err, backend.ErrUnreachable) || len(left) != 0 {
			t.Fatalf("read %d: %v, left %v", n, err, left)
		}
	}
}

// TestLostDataIsAnErrorAndNoFile: a disk with a hole in it is no restore.
func TestLostDataIsAnErrorAndNoFile(t *testing.T) {
	v := newVault(t, 60*chunkBytes)
	name := v.packs(t)[0]
	err := v.be.Damage(name, func(b []byte) []byte {
		for i := len(b) / 4; i < len(b)*3/4; i++ {
			b[i] ^= 0x5a
		}
		return b
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := restore.Run(t.Context(), v.r, v.point, v.disk(), &restore.FileTarget{Path: filepath.Join(dir, "disk")}, opts); !errors.Is(err, pack.ErrDamaged) {
		t.Errorf("restore: %v", err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// meddler does something to the file behind the target's back at a phase, and
// counts how the target is ended.
type meddler struct {
	restore.FileTarget
	at              string
	do              func(temp string)
	commits, aborts int
	dead            error
}

func (m *meddler) Create(ctx context.Context, p *recovery.Point, items []recovery.Item) (restore.Placed, error) {
	placed, err := m.FileTarget.Create(ctx, p, items)
	if err != nil {
		return nil, err
	}
	m.meddle("create")
	return &meddled{placed, m}, nil
}

func (m *meddler) meddle(phase string) {
	if m.at != phase {
		return
	}
	temps, _ := filepath.Glob(filepath.Join(filepath.Dir(m.Path), ".*restoring*"))
	m.do(temps[0])
}

type meddled struct {
	restore.Placed
	m *meddler
}

func (p *meddled) WriteDisk(ctx context.Context, item recovery.Item, src restore.Disk) error {
	err := p.Placed.WriteDisk(ctx, item, src)
	p.m.meddle("write")
	return err
}

func (p *meddled) Verify(ctx context.Context, item recovery.Item, src restore.Disk) (string, error) {
	how, err := p.Placed.Verify(ctx, item, src)
	p.m.meddle("verify")
	return how, err
}

func (p *meddled) Commit(ctx context.Context) error {
	p.m.commits++
	return p.Placed.Commit(ctx)
}

func (p *meddled) Abort(ctx context.Context) error {
	p.m.aborts++
	p.m.dead = ctx.Err()
	return p.Placed.Abort(ctx)
}

// TestBytesThatChangeOnTheWayAreFoundByVerify at each place of the disk: data,
// zeros, the end, and a file cut short.
func TestBytesThatChangeOnTheWayAreFoundByVerify(t *testing.T) {
	v := newVault(t, 9*chunkBytes+5)
	for _, at := range []int64{0, chunkBytes * 2, 5*chunkBytes + 17, int64(len(v.data)) - 1, -1} {
		for _, format := range []*restore.Format{nil, plain()} {
			dir := t.TempDir()
			m := &meddler{FileTarget: restore.FileTarget{Path: filepath.Join(dir, "disk"), Format: format}, at: "write", do: func(temp string) {
				data, err := os.ReadFile(temp)
				if err != nil {
					t.Fatal(err)
				}
				if at < 0 {
					data = data[:len(data)-1]
				} else {
					data[int64(len(data)-len(v.data))+at] ^= 1
				}
				if err := os.WriteFile(temp, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}}
			_, err := restore.Run(t.Context(), v.r, v.point, v.disk(), m, opts)
			if !errors.Is(err, restore.ErrVerify) || m.commits != 0 || m.aborts != 1 {
				t.Errorf("byte %d: %v, %d commits, %d aborts", at, err, m.commits, m.aborts)
			}
			if left := files(t, dir); len(left) != 0 {
				t.Errorf("byte %d: left %v", at, left)
			}
		}
	}
}

// TestInterruptAtEachPhase ends the context there: the target is taken back
// once, with a living context, or it is complete.
func TestInterruptAtEachPhase(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	v := newVault(t, 9*chunkBytes+5)
	for _, phase := range []string{"create", "write"} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		m := &meddler{FileTarget: restore.FileTarget{Path: filepath.Join(dir, "disk")}, at: phase, do: func(string) { cancel() }}
		_, err := restore.Run(ctx, v.r, v.point, v.disk(), m, opts)
		if !errors.Is(err, context.Canceled) || m.aborts != 1 || m.commits != 0 || m.dead != nil {
			t.Errorf("interrupt after %s: %v, %d aborts, %d commits, context %v", phase, err, m.aborts, m.commits, m.dead)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("interrupt after %s: left %v", phase, left)
		}
	}
}

// TestFileThatAppearsMeanwhileIsNotLost: it was not there when the restore began.
func TestFileThatAppearsMeanwhileIsNotLost(t *testing.T) {
	v := newVault(t, 3*chunkBytes)
	dir := t.TempDir()
	path := filepath.Join(dir, "disk")
	m := &meddler{FileTarget: restore.FileTarget{Path: path}, at: "verify", do: func(string) {
		if err := os.WriteFile(path, []byte("somebody's"), 0o600); err != nil {
			t.Fatal(err)
		}
	}}
	if _, err := restore.Run(t.Context(), v.r, v.point, v.disk(), m, opts); !errors.Is(err, restore.ErrFileExists) || m.aborts != 1 {
		t.Errorf("restore: %v, %d aborts", err, m.aborts)
	}
	wantFile(t, path, []byte("somebody's"))
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

// TestAbortThatFailsIsSaid beside the reason of the abort.
func TestAbortThatFailsIsSaid(t *testing.T) {
	v := newVault(t, 3*chunkBytes)
	target := &stubborn{}
	_, err := restore.Run(t.Context(), v.r, v.point, v.point.Items, target, opts)
	if !errors.Is(err, errWrite) || !errors.Is(err, errStays) {
		t.Errorf("restore: %v", err)
	}
	if string(target.streams["vmx"]) != "small" || !bytes.Equal(target.streams["nvram"], v.text) {
		t.Error("the streams came back different")
	}
}

var errStays = errors.New("it stays")

// stubborn is a target that takes streams, refuses to commit and to go away.
type stubborn struct{ streams map[string][]byte }

func (s *stubborn) Create(context.Context, *recovery.Point, []recovery.Item) (restore.Placed, error) {
	s.streams = map[string][]byte{}
	return s, nil
}
func (s *stubborn) WriteDisk(context.Context, recovery.Item, restore.Disk) error { return nil }
func (s *stubborn) WriteStream(_ context.Context, item recovery.Item, r io.Reader) error {
	data, err := io.ReadAll(r)
	s.streams[item.Name] = data
	return err
}
func (s *stubborn) Verify(context.Context, recovery.Item, restore.Disk) (string, error) {
	return "assured otherwise", nil
}
func (s *stubborn) Commit(context.Context) error { return fmt.Errorf("commit: %w", errWrite) }
func (s *stubborn) Abort(context.Context) error  { return errStays }
