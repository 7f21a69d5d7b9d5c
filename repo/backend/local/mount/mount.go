// Package mount tells whether a folder lies on a file system that several hosts
// share through caches of their own, where only one of them may write.
package mount

import "fmt"

func singleWriter(kind string) string {
	return fmt.Sprintf("a directory on %s: each host caches listings for itself; for many hosts use S3", kind)
}
