package vmdk

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast/vmware/vmdk/extent"
)

// NoParent is the ParentCID of a disk that has none.
const NoParent uint32 = 0xffffffff

// DefaultCID is the content id that VMware gives a disk nobody wrote to yet.
const DefaultCID uint32 = 0xfffffffe

// maxExtents admits a 62 TiB disk in 2 GiB pieces.
const maxExtents = 1 << 16

// Descriptor is the text that makes extents a disk. Its zero value is not
// valid; NewFlatDescriptor, NewDeltaDescriptor and ParseDescriptor make one.
type Descriptor struct {
	// Version of the descriptor: 1 to 4.
	Version int
	// CID changes with the content; ParentCID is the CID the parent had when
	// the delta was made, or NoParent.
	CID, ParentCID uint32
	// CreateType is the kind as VMware spells it: vmfs, seSparse,
	// monolithicFlat, twoGbMaxExtentSparse, streamOptimized …
	CreateType string
	// ParentHint is the parent descriptor's file name, empty without parent.
	ParentHint string
	// Extents lie end to end in this order.
	Extents []DescriptorExtent
	// Header keeps the statements of the header that have no field here
	// (encoding, changeTrackPath, isNativeSnapshot), key to unquoted value.
	Header map[string]string
	// DDB is the disk database, key without "ddb." to unquoted value:
	// adapterType, geometry.cylinders, virtualHWVersion, uuid …
	DDB map[string]string
}

// DescriptorExtent is one extent line of a descriptor.
type DescriptorExtent struct {
	// Access is RW, RDONLY or NOACCESS.
	Access string
	// Sectors is the length in sectors of 512 bytes.
	Sectors int64
	// Type is FLAT, VMFS, SPARSE, VMFSSPARSE, SESPARSE, ZERO …
	Type string
	// Name is the file's name; empty for ZERO. It is what the text says: check
	// before use as a path.
	Name string
	// Offset is where a flat extent starts in its file, in sectors.
	Offset int64
}

// NewFlatDescriptor describes a disk of size bytes whose raw bytes are in the
// file name, as ESXi writes it (createType vmfs). The file must be
// CapacityFor(size) bytes long. For hosted products set CreateType to
// monolithicFlat and the extent's Type to FLAT.
func NewFlatDescriptor(name string, size int64) *Descriptor {
	sectors := CapacityFor(size) / SectorBytes
	return &Descriptor{
		Version: 1, CID: DefaultCID, ParentCID: NoParent, CreateType: "vmfs",
		Extents: []DescriptorExtent{{Access: "RW", Sectors: sectors, Type: "VMFS", Name: name}},
		Header:  map[string]string{"encoding": "UTF-8"},
		DDB:     diskDatabase(sectors),
	}
}

// NewDeltaDescriptor describes a seSparse delta of size bytes in the file name
// over the disk whose descriptor is the file parent, with content id parentCID.
func NewDeltaDescriptor(name, parent string, parentCID uint32, size int64) *Descriptor {
	d := NewFlatDescriptor(name, size)
	d.CreateType, d.Extents[0].Type = "seSparse", "SESPARSE"
	d.ParentHint, d.ParentCID = parent, parentCID
	return d
}

// diskDatabase holds the geometry that vSphere gives a SCSI disk.
func diskDatabase(sectors int64) map[string]string {
	const heads, perTrack = 255, 63
	return map[string]string{
		"adapterType":        "lsilogic",
		"geometry.cylinders": strconv.FormatInt(max(1, min(sectors/(heads*perTrack), 65535)), 10),
		"geometry.heads":     strconv.Itoa(heads),
		"geometry.sectors":   strconv.Itoa(perTrack),
		"virtualHWVersion":   "14",
	}
}

// HasParent reports whether the disk is a delta over another one.
func (d *Descriptor) HasParent() bool { return d.ParentCID != NoParent || d.ParentHint != "" }

// Size is the disk's size in bytes, the sum of its extents.
func (d *Descriptor) Size() int64 {
	var n int64
	for _, e := range d.Extents {
		n += e.Sectors * SectorBytes
	}
	return n
}

// Geometry is what the disk database says about cylinders, heads and sectors
// per track; ok is false when it says nothing usable.
func (d *Descriptor) Geometry() (cylinders, heads, sectors int64, ok bool) {
	var got [3]int64
	for i, key := range []string{"geometry.cylinders", "geometry.heads", "geometry.sectors"} {
		n, err := strconv.ParseInt(d.DDB[key], 10, 64)
		if err != nil || n < 0 {
			return 0, 0, 0, false
		}
		got[i] = n
	}
	return got[0], got[1], got[2], true
}

// String is the descriptor as text. Maps are written in sorted order, so equal
// descriptors give equal text.
func (d *Descriptor) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=%d\n", d.Version)
	for _, key := range slices.Sorted(maps.Keys(d.Header)) {
		fmt.Fprintf(&b, "%s=\"%s\"\n", key, d.Header[key])
	}
	fmt.Fprintf(&b, "CID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n", d.CID, d.ParentCID, d.CreateType)
	if d.ParentHint != "" {
		fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n", d.ParentHint)
	}
	b.WriteString("\n# Extent description\n")
	for _, e := range d.Extents {
		b.WriteString(e.String() + "\n")
	}
	b.WriteString("\n# The Disk Data Base\n#DDB\n\n")
	for _, key := range slices.Sorted(maps.Keys(d.DDB)) {
		fmt.Fprintf(&b, "ddb.%s = \"%s\"\n", key, d.DDB[key])
	}
	return b.String()
}

// String is the extent's line. FLAT always states its offset, as qemu demands.
func (e DescriptorExtent) String() string {
	s := fmt.Sprintf("%s %d %s", e.Access, e.Sectors, e.Type)
	if e.Type == "ZERO" {
		return s
	}
	s += ` "` + e.Name + `"`
	if e.Type == "FLAT" || e.Offset != 0 {
		s += " " + strconv.FormatInt(e.Offset, 10)
	}
	return s
}

// ParseDescriptor reads a descriptor's text, up to its first NUL byte, for one
// embedded in a sparse file is padded with them. Statements it does not know
// are kept; statements that decide about content (CID, parentCID, createType,
// parent) must not come twice. Errors wrap ErrFormat.
func ParseDescriptor(text []byte) (*Descriptor, error) {
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	if len(text) > extent.MaxDescriptorBytes {
		return nil, fmt.Errorf("parse descriptor: %d bytes of text: %w", len(text), ErrFormat)
	}
	p := descriptorParser{
		d:    &Descriptor{Header: map[string]string{}, DDB: map[string]string{}, ParentCID: NoParent},
		seen: map[string]bool{},
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if err := p.line(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("parse descriptor: line %d: %w", number, err)
		}
	}
	for _, key := range []string{"version", "cid", "createtype"} {
		if !p.seen[key] {
			return nil, fmt.Errorf("parse descriptor: no %s: %w", key, ErrFormat)
		}
	}
	return p.d, nil
}

// parseEmbedded is ParseDescriptor for the place inside of a sparse file, which
// may be left empty, as in a piece of a split disk: then there is no descriptor.
func parseEmbedded(text []byte) (*Descriptor, error) {
	if len(text) == 0 || text[0] == 0 {
		return nil, nil
	}
	return ParseDescriptor(text)
}

type descriptorParser struct {
	d     *Descriptor
	seen  map[string]bool
	total int64 // sectors of the extents so far
}

func (p *descriptorParser) line(s string) error {
	if s == "" || s[0] == '#' {
		return nil
	}
	word := strings.Fields(s)[0]
	switch word {
	case "RW", "RDONLY", "NOACCESS":
		return p.extent(s)
	}
	key, value, found := strings.Cut(s, "=")
	if !found {
		return fmt.Errorf("statement without a value: %w", ErrFormat)
	}
	value, err := unquote(strings.TrimSpace(value))
	if err != nil {
		return err
	}
	return p.statement(strings.TrimSpace(key), value)
}

func (p *descriptorParser) statement(key, value string) error {
	if key == "" || strings.ContainsAny(key, " \t\"") {
		return fmt.Errorf("name of a statement: %w", ErrFormat)
	}
	if name, ok := strings.CutPrefix(key, "ddb."); ok {
		if name == "" {
			return fmt.Errorf("name of a statement: %w", ErrFormat)
		}
		p.d.DDB[name] = value
		return nil
	}
	lower := strings.ToLower(key)
	if p.seen[lower] {
		return fmt.Errorf("%s is stated twice: %w", key, ErrFormat)
	}
	p.seen[lower] = true
	return p.header(key, lower, value)
}

func (p *descriptorParser) header(key, lower, value string) (err error) {
	switch lower {
	case "version":
		p.d.Version, err = strconv.Atoi(value)
		if err != nil || p.d.Version < 1 || p.d.Version > 4 {
			return fmt.Errorf("version %q: %w", value, ErrFormat)
		}
	case "cid":
		p.d.CID, err = parseCID(value)
	case "parentcid":
		p.d.ParentCID, err = parseCID(value)
	case "createtype":
		p.d.CreateType = value
	case "parentfilenamehint":
		p.d.ParentHint = value
	default:
		p.d.Header[key] = value
	}
	return err
}

// extent reads `RW 8192 FLAT "disk-flat.vmdk" 0`. What follows the offset (the
// device id of raw extents) is not for us.
func (p *descriptorParser) extent(s string) error {
	head, rest, quoted := strings.Cut(s, `"`)
	words := strings.Fields(head)
	if len(words) != 3 || len(p.d.Extents) == maxExtents {
		return fmt.Errorf("extent line: %w", ErrFormat)
	}
	e := DescriptorExtent{Access: words[0], Type: words[2]}
	var err error
	if e.Sectors, err = strconv.ParseInt(words[1], 10, 64); err != nil || e.Sectors <= 0 {
		return fmt.Errorf("extent of %q sectors: %w", words[1], ErrFormat)
	}
	if e.Sectors > MaxCapacity/SectorBytes-p.total {
		return fmt.Errorf("extents of more than %d bytes: %w", MaxCapacity, ErrFormat)
	}
	p.total += e.Sectors
	if quoted != (e.Type != "ZERO") {
		return fmt.Errorf("extent of type %s and its name: %w", e.Type, ErrFormat)
	}
	if quoted {
		name, tail, closed := strings.Cut(rest, `"`)
		if !closed || name == "" {
			return fmt.Errorf("name of an extent: %w", ErrFormat)
		}
		e.Name = name
		if words := strings.Fields(tail); len(words) > 0 {
			e.Offset, err = strconv.ParseInt(words[0], 10, 64)
			if err != nil || e.Offset < 0 || e.Offset > 1<<53 {
				return fmt.Errorf("offset %q of an extent: %w", words[0], ErrFormat)
			}
		}
	}
	p.d.Extents = append(p.d.Extents, e)
	return nil
}

func parseCID(value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("content id %q: %w", value, ErrFormat)
	}
	return uint32(n), nil
}

func unquote(s string) (string, error) {
	if strings.HasPrefix(s, `"`) {
		if len(s) < 2 || !strings.HasSuffix(s, `"`) {
			return "", fmt.Errorf("quote is not closed: %w", ErrFormat)
		}
		s = s[1 : len(s)-1]
	}
	if strings.Contains(s, `"`) {
		return "", fmt.Errorf("quote inside of a value: %w", ErrFormat)
	}
	return s, nil
}
