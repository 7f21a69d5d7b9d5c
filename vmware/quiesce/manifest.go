package quiesce

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast/repo/recovery"
)

// ErrManifest means that a VSS manifest is no archive or holds no documents.
var ErrManifest = errors.New("vss manifest cannot be read")

const (
	// MaxManifest bounds the archive in bytes; real ones have some kilobytes.
	MaxManifest     = 16 << 20
	maxDocument     = 16 << 20
	maxDocuments    = 1000
	componentsRoot  = "BACKUP_COMPONENTS"
	writersMetadata = "WRITER_METADATA"
)

// ReadManifest tells from the archive that VMware's VSS requester leaves what
// was quiesced (V26): the backup components document alone means file systems,
// metadata of writers besides it means applications, too.
func ReadManifest(archive []byte) (level string, writers int, err error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return "", 0, fmt.Errorf("open archive: %w: %w", ErrManifest, err)
	}
	if len(z.File) > maxDocuments {
		return "", 0, fmt.Errorf("archive of %d files: %w", len(z.File), ErrManifest)
	}
	components := 0
	for _, f := range z.File {
		root, err := rootElement(f)
		if err != nil {
			return "", 0, fmt.Errorf("read %q: %w: %w", f.Name, ErrManifest, err)
		}
		switch {
		case strings.EqualFold(root, componentsRoot):
			components++
		case strings.EqualFold(root, writersMetadata), root != "" && strings.Contains(strings.ToLower(f.Name), "writer"):
			writers++
		}
	}
	switch {
	case components == 0:
		return "", 0, fmt.Errorf("no backup components document among %d files: %w", len(z.File), ErrManifest)
	case writers == 0:
		return recovery.FileSystem, 0, nil
	}
	return recovery.Application, writers, nil
}

// rootElement is the name of a document's first element, "" for a directory or
// something that is not XML.
func rootElement(f *zip.File) (string, error) {
	if f.FileInfo().IsDir() {
		return "", nil
	}
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close() //nolint:errcheck // reading is over
	body, err := io.ReadAll(io.LimitReader(r, maxDocument))
	if err != nil {
		return "", err
	}
	return xmlRoot(body), nil
}

// xmlRoot reads UTF-8 and the UTF-16 that Windows likes.
func xmlRoot(body []byte) string {
	if len(body) >= 2 && (body[0] == 0xff && body[1] == 0xfe || body[0] == '<' && body[1] == 0) {
		narrow := make([]byte, 0, len(body)/2)
		for i := 0; i+1 < len(body); i += 2 {
			if body[i+1] == 0 {
				narrow = append(narrow, body[i])
			}
		}
		body = narrow
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	for {
		t, err := d.Token()
		if err != nil {
			return ""
		}
		if e, ok := t.(xml.StartElement); ok {
			return e.Name.Local
		}
	}
}
