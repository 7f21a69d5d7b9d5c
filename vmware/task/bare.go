package task

import (
	"errors"
	"net/url"
)

// Bare is an error without the URL that net/http puts into it: the addresses by which
// files travel to and from hosts are good for whoever has them (a guest file's token, a
// lease's session), and errors go to screens and logs. The host's name stays.
// It stays a *url.Error, too, by which a broken network is told.
func Bare(err error) error {
	outer, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	host := "?"
	if u, parsed := url.Parse(outer.URL); parsed == nil {
		host = u.Scheme + "://" + u.Host
	}
	return &url.Error{Op: outer.Op, URL: host, Err: outer.Err}
}
