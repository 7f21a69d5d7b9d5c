package spec

import (
	"archive/zip"
	"bytes"
	"fmt"
)

// Manifest is the zip file that a Windows guest leaves after quiescing, nil for a level
// without VSS. Its documents have the root elements of Microsoft's: the backup
// components document, and when applications were quiesced the metadata of each writer,
// too.
func Manifest(level VSS) ([]byte, error) {
	if level != FileSystemVSS && level != ApplicationVSS {
		return nil, nil
	}
	type document struct{ name, text string }
	docs := []document{{"bcd.xml",
		`<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2" bootableSystemStateBackup="yes" selectComponents="yes" backupType="copy"/>`}}
	if level == ApplicationVSS {
		for i, w := range []string{"SqlServerWriter", "System Writer"} {
			docs = append(docs, document{fmt.Sprintf("writer%d.xml", i),
				`<WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo" version="1.1"><IDENTIFICATION friendlyName="` + w + `"/></WRITER_METADATA>`})
		}
	}
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, d := range docs {
		f, err := z.Create(d.name)
		if err != nil {
			return nil, fmt.Errorf("write manifest: %w", err)
		}
		if _, err := f.Write([]byte(d.text)); err != nil {
			return nil, fmt.Errorf("write manifest: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return buf.Bytes(), nil
}
