package vmdk

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"holdfast/vmware/vmdk/extent"
)

// TestStreamRoundTrips writes every size, reads it back in both of our ways,
// and lets qemu-img compare.
func TestStreamRoundTrips(t *testing.T) {
	for _, size := range diskSizes {
		t.Run(sizeName(size), func(t *testing.T) {
			dir := t.TempDir()
			raw, written := rawDisk(t, dir, size)
			path := filepath.Join(dir, "disk.vmdk")
			out, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			n, err := WriteStream(context.Background(), out, raw, size, StreamOptions{Allocated: written})
			if err != nil {
				t.Fatal(err)
			}
			if st, _ := out.Stat(); st.Size() != n {
				t.Fatalf("returned %d bytes, wrote %d", n, st.Size())
			}
			out.Close()

			im := openFile(t, dir, "disk.vmdk")
			if im.Size() != size {
				t.Fatalf("size %d, want %d", im.Size(), size)
			}
			wantSame(t, im, raw, size, written)
			wantHoles(t, im, written, streamGrainBytes)

			decoded, got := readStreamTo(t, openOS(t, path), dir)
			if got != size {
				t.Fatalf("stream of %d bytes, want %d", got, size)
			}
			wantSame(t, decoded, raw, size, written)
			qemuImg(t, "compare", "-f", "raw", "-F", "vmdk", raw.Name(), path)
			qemuImg(t, "compare", "-f", "raw", "-F", "raw", raw.Name(), decoded.Name())
		})
	}
}

// TestReadsWhatQemuWrites opens every kind that qemu-img can create.
func TestReadsWhatQemuWrites(t *testing.T) {
	needQemu(t)
	for _, size := range diskSizes {
		dir := t.TempDir()
		raw, written := rawDisk(t, dir, size)
		for _, kind := range []string{"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"} {
			t.Run(sizeName(size)+"/"+kind, func(t *testing.T) {
				name := kind + ".vmdk"
				qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+kind, raw.Name(), filepath.Join(dir, name))
				im := openFile(t, dir, name)
				if im.Size() != size {
					t.Fatalf("size %d, want %d", im.Size(), size)
				}
				if got := im.Descriptor().CreateType; got != kind {
					t.Errorf("kind %q, want %q", got, kind)
				}
				if !Sniff(openOS(t, filepath.Join(dir, name))) {
					t.Error("is not sniffed as a vmdk")
				}
				wantSame(t, im, raw, size, written)
				if kind != "monolithicFlat" && kind != "twoGbMaxExtentFlat" {
					wantHoles(t, im, written, streamGrainBytes)
				}
				if kind == "streamOptimized" {
					decoded, got := readStreamTo(t, openOS(t, filepath.Join(dir, name)), dir)
					if got != size {
						t.Fatalf("stream of %d bytes, want %d", got, size)
					}
					wantSame(t, decoded, raw, size, written)
				}
			})
		}
	}
}

// TestSplitDisk has several extents for real: qemu cuts at 2 GiB.
func TestSplitDisk(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	const size = 5 << 30
	raw, _ := rawDisk(t, dir, size)
	edge := Extent{2<<30 - 4096, 8192}
	if _, err := raw.WriteAt(bytes.Repeat([]byte("edge"), 2048), edge.Start); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"twoGbMaxExtentSparse", "twoGbMaxExtentFlat"} {
		qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+kind, raw.Name(), filepath.Join(dir, kind+".vmdk"))
		im := openFile(t, dir, kind+".vmdk")
		if len(im.parts) != 3 || im.Size() != size {
			t.Fatalf("%s: %d parts, %d bytes", kind, len(im.parts), im.Size())
		}
		wantSame(t, im, raw, size, []Extent{edge, {0, 512}, {size - 512, 512}})
	}
	// A piece alone is not the disk.
	_, err := openFileAs(t, dir, "twoGbMaxExtentSparse-s002.vmdk", Open)
	wantError(t, err, ErrNeedsDescriptor)
}

// TestSparseDeltaOfQemu is a chain of monolithicSparse files, as hosted
// products make them.
func TestSparseDeltaOfQemu(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	raw, written := rawDisk(t, dir, 70*mib)
	qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", raw.Name(), filepath.Join(dir, "base.vmdk"))
	qemuImg(t, "create", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", filepath.Join(dir, "delta.vmdk"))
	_, err := openFileAs(t, dir, "delta.vmdk", Open)
	wantError(t, err, ErrHasParent)
	_, err = ReadStream(context.Background(), openOS(t, filepath.Join(dir, "delta.vmdk")), nil)
	wantError(t, err, ErrUnsupported)
	im, err := openFileAs(t, dir, "delta.vmdk", OpenChain)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, im, raw, 70*mib, written)
	wantHoles(t, im, written, streamGrainBytes)
}

// TestFlatDescriptorOpensInQemu: the pair that a restore to a datastore leaves.
func TestFlatDescriptorOpensInQemu(t *testing.T) {
	for _, hosted := range []bool{false, true} {
		dir := t.TempDir()
		raw, written := rawDisk(t, dir, 3*mib+3584)
		d := NewFlatDescriptor("disk.raw", 3*mib+3584)
		if hosted {
			d.CreateType, d.Extents[0].Type = "monolithicFlat", "FLAT"
		}
		path := filepath.Join(dir, "disk.vmdk")
		if err := os.WriteFile(path, []byte(d.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		wantSame(t, openFile(t, dir, "disk.vmdk"), raw, 3*mib+3584, written)
		qemuImg(t, "compare", "-f", "raw", "-F", "vmdk", raw.Name(), path)
	}
}

// TestTruncatedStreamOfQemu: its layout announces no end, so only the tables in
// front can tell that grains are missing.
func TestTruncatedStreamOfQemu(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	raw, _ := rawDisk(t, dir, 70*mib)
	path := filepath.Join(dir, "q.vmdk")
	qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw.Name(), path)
	stream, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := decode(stream); err != nil || size != 70*mib {
		t.Fatalf("%d, %v", size, err)
	}
	h, err := extent.ParseHeader(stream)
	if err != nil {
		t.Fatal(err)
	}
	for at := int(h.Overhead) * SectorBytes; ; {
		m := extent.ParseMarker(stream[at:])
		if m.Size == 0 {
			break
		}
		_, err := decode(stream[:at])
		wantError(t, err, ErrTruncated)
		_, err = decode(append(bytes.Clone(stream[:at]), make([]byte, SectorBytes)...))
		wantError(t, err, ErrTruncated)
		at += int(extent.RoundUp(int64(m.Size)+extent.GrainHeadBytes, SectorBytes))
	}
}
