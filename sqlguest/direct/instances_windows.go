package direct

import (
	"errors"
	"fmt"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// instanceNames is where setup writes an instance's name and the id of its folder.
const instanceNames = `SOFTWARE\Microsoft\Microsoft SQL Server\Instance Names\SQL`

// installed are the names of this machine's instances, MSSQLSERVER for the default one.
// The registry has a view for programs of 64 bits and one for those of 32.
func installed() ([]string, error) {
	var names []string
	for _, view := range []uint32{registry.WOW64_64KEY, registry.WOW64_32KEY} {
		key, err := registry.OpenKey(registry.LOCAL_MACHINE, instanceNames, registry.QUERY_VALUE|view)
		if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list this machine's SQL Servers: %w", err)
		}
		list, err := key.ReadValueNames(-1)
		if err = errors.Join(err, key.Close()); err != nil {
			return nil, fmt.Errorf("list this machine's SQL Servers: %w", err)
		}
		names = append(names, list...)
	}
	return names, nil
}

// bare tells whether it is certain that no SQL Server is installed here.
func bare() bool {
	names, err := installed()
	return err == nil && len(names) == 0
}
