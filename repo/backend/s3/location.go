package s3

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// ErrLocation: the text is no location of a bucket as this program writes them.
var ErrLocation = errors.New("not an s3 location (s3:https://host[:port]/bucket[/prefix] or s3:bucket[/prefix])")

// maxPrefixBytes leaves room for the longest object name (512) in a key (1,024).
const maxPrefixBytes = 511

// Location is a place for a repository: a bucket, or the part of one whose keys
// begin with Prefix and a slash. It holds no secrets.
type Location struct {
	Endpoint string // "https://host[:port]", or http; "" is Amazon, or what AWS_ENDPOINT_URL_S3 says
	Bucket   string // 3–63 of a-z, 0-9, '.', '-'
	Prefix   string // without slashes at its ends; "" is the whole bucket
}

// ParseURL reads "s3:https://host[:port]/bucket[/prefix]", the same with http,
// and "s3:bucket[/prefix]" (Amazon). What is wrong is ErrLocation; the text is
// not repeated in the error, since some people write passwords into URLs.
func ParseURL(text string) (Location, error) {
	rest, ok := strings.CutPrefix(text, "s3:")
	if !ok {
		return Location{}, fmt.Errorf("parse repository url: %w", ErrLocation)
	}
	var where Location
	if strings.HasPrefix(rest, "https://") || strings.HasPrefix(rest, "http://") {
		scheme, path, _ := strings.Cut(rest, "://")
		host, path, _ := strings.Cut(path, "/")
		where.Endpoint, rest = scheme+"://"+host, path
	}
	where.Bucket, where.Prefix, _ = strings.Cut(rest, "/")
	where.Prefix = strings.TrimSuffix(where.Prefix, "/")
	if err := where.check(); err != nil {
		return Location{}, fmt.Errorf("parse repository url: %w", err)
	}
	return where, nil
}

// String is the text that ParseURL reads.
func (l Location) String() string {
	text := "s3:"
	if l.Endpoint != "" {
		text += l.Endpoint + "/"
	}
	text += l.Bucket
	if l.Prefix != "" {
		text += "/" + l.Prefix
	}
	return text
}

// keyPrefix is what all keys of the location begin with.
func (l Location) keyPrefix() string {
	if l.Prefix == "" {
		return ""
	}
	return l.Prefix + "/"
}

func (l Location) check() error {
	if l.Endpoint != "" {
		if _, err := parseEndpoint(l.Endpoint); err != nil {
			return err
		}
	}
	if err := s3utils.CheckValidBucketNameStrict(l.Bucket); err != nil {
		return fmt.Errorf("%w: bucket: %s", ErrLocation, lowerFirst(err.Error()))
	}
	if l.Prefix == "" {
		return nil
	}
	if len(l.Prefix) > maxPrefixBytes {
		return fmt.Errorf("%w: prefix is longer than %d bytes", ErrLocation, maxPrefixBytes)
	}
	for part := range strings.SplitSeq(l.Prefix, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, unsafeInKey) {
			return fmt.Errorf("%w: prefix holds an empty part, a dot part or a character other than a-z A-Z 0-9 ! - _ . * ' ( )", ErrLocation)
		}
	}
	return nil
}

// unsafeInKey: not in Amazon's list of characters that are safe in keys.
func unsafeInKey(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!-_.*'()", c))
}

// parseEndpoint takes scheme and host only: no user, path, query or fragment.
func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%w: server", ErrLocation)
	}
	if u.User != nil {
		return nil, fmt.Errorf("%w: credentials do not belong in it; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", ErrLocation)
	}
	if *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		return nil, fmt.Errorf("%w: the server has more than scheme, host and port", ErrLocation)
	}
	return u, nil
}

func lowerFirst(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToLower(text[:1]) + text[1:]
}
