//go:build !windows

package direct

// installed is for Windows: elsewhere a machine has one SQL Server without a name.
func installed() ([]string, error) { return nil, nil }
