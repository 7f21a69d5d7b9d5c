package vmdk

import (
	"reflect"
	"strings"
	"testing"

	"holdfast/vmware/vmdk/extent"
)

// esxiDescriptor is the text of a delta as ESXi 7 writes it.
const esxiDescriptor = `# Disk DescriptorFile
version=4
encoding="UTF-8"
CID=5d9bb7ac
parentCID=fffffffe
createType="seSparse"
parentFileNameHint="web01.vmdk"
# Extent description
RW 83886080 SESPARSE "web01-000001-sesparse.vmdk"

# Change Tracking File
changeTrackPath="web01-000001-ctk.vmdk"

# The Disk Data Base
#DDB

ddb.geometry.cylinders = "5221"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.longContentID = "aa6d5b0f2bd9dd3bb5c47d9f5d9bb7ac"
`

func TestDescriptorOfESXi(t *testing.T) {
	for _, text := range []string{
		esxiDescriptor, strings.ReplaceAll(esxiDescriptor, "\n", "\r\n"),
		esxiDescriptor + "\x00\x00rubbish behind the text",
	} {
		d, err := ParseDescriptor([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		want := &Descriptor{
			Version: 4, CID: 0x5d9bb7ac, ParentCID: 0xfffffffe, CreateType: "seSparse", ParentHint: "web01.vmdk",
			Extents: []DescriptorExtent{{"RW", 83886080, "SESPARSE", "web01-000001-sesparse.vmdk", 0}},
			Header:  map[string]string{"encoding": "UTF-8", "changeTrackPath": "web01-000001-ctk.vmdk"},
			DDB: map[string]string{
				"geometry.cylinders": "5221", "geometry.heads": "255", "geometry.sectors": "63",
				"longContentID": "aa6d5b0f2bd9dd3bb5c47d9f5d9bb7ac",
			},
		}
		if !reflect.DeepEqual(d, want) {
			t.Fatalf("got  %+v\nwant %+v", d, want)
		}
		if c, h, s, ok := d.Geometry(); c != 5221 || h != 255 || s != 63 || !ok {
			t.Errorf("geometry %d %d %d %v", c, h, s, ok)
		}
		if d.Size() != 40<<30 || !d.HasParent() {
			t.Errorf("size %d, parent %v", d.Size(), d.HasParent())
		}
		again, err := ParseDescriptor([]byte(d.String()))
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("text does not come back: %v\n%s", err, d)
		}
	}
}

func TestDescriptorRefusals(t *testing.T) {
	head := "version=1\nCID=1\ncreateType=\"vmfs\"\n"
	if _, err := ParseDescriptor([]byte(head)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "version=1\nCID=1\n", "version=1\ncreateType=\"vmfs\"\n", strings.Replace(head, "=1", "=9", 1),
		strings.Replace(head, "CID=1", "CID=xyz", 1), head + "CID=2\n", head + "cid=2\n",
		head + "parentCID=1\nparentCID=2\n", head + "createType=\"x\"\n", head + "word\n", head + "=1\n",
		head + "a b=1\n", head + "x=\"open\n", head + "x=a\"b\n", head + "ddb.=\"x\"\n", head + "x=\"a\"b\"\n",
		head + "RW 0 FLAT \"a\" 0\n", head + "RW -5 FLAT \"a\" 0\n", head + "RW 5 FLAT a 0\n",
		head + "RW 5 FLAT \"a 0\n", head + "RW 5 FLAT \"a\" -1\n", head + "RW 5 FLAT \"a\" x\n",
		head + "RW 5 FLAT \"\"\n", head + "RW 5 ZERO \"a\"\n", head + "RW 5\n", head + "RW 99999999999999999999 ZERO\n",
		head + "RW 137438953472 ZERO\nRW 1 ZERO\n", head + strings.Repeat("x", extent.MaxDescriptorBytes),
	} {
		if d, err := ParseDescriptor([]byte(text)); err == nil {
			t.Errorf("%.60q was taken as %v", text, d)
		} else {
			wantError(t, err, ErrFormat)
		}
	}
}

func TestSniff(t *testing.T) {
	for text, want := range map[string]bool{
		esxiDescriptor: true, "KDMV": true, "COWD": true, "\xbe\xba\xfe\xca\x00\x00\x00\x00": true,
		"\n# comment\nversion = 1\n": true, "# disk descriptorfile": true,
		"": false, "KDM": false, "# comment\n": false, "\x00\x00\x00": false, "plain text": false,
		"\xeb\x63\x90 version=1": false,
	} {
		if got := Sniff(strings.NewReader(text)); got != want {
			t.Errorf("sniff %.20q: %v", text, got)
		}
	}
}

func TestFlatDescriptorCoversOddSizes(t *testing.T) {
	d := NewFlatDescriptor("x-flat.vmdk", 1000)
	if d.Size() != 1024 || d.HasParent() || d.CID != DefaultCID {
		t.Errorf("%+v", d)
	}
	if c, _, _, ok := NewFlatDescriptor("x", 8<<40).Geometry(); c != 65535 || !ok {
		t.Errorf("cylinders of a large disk: %d", c)
	}
	if _, _, _, ok := (&Descriptor{}).Geometry(); ok {
		t.Error("geometry out of nothing")
	}
}
