package direct

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/sqlguest/server"
)

// Addresses takes apart what may name several SQL Servers of one machine: addresses
// with blanks between them, each as in Options.Address. "" names every instance that
// is installed here, the default one first; where the system does not tell, the default
// one alone.
func Addresses(address string) ([]string, error) {
	if list := strings.Fields(address); len(list) > 0 {
		return list, nil
	}
	names, err := installed()
	if err != nil {
		return nil, err
	}
	return addressesOf(names), nil
}

// addressesOf makes addresses of instances' names, in a fixed order.
func addressesOf(names []string) []string {
	var list []string
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if strings.EqualFold(name, "MSSQLSERVER") {
			list = slices.Insert(list, 0, "localhost")
			continue
		}
		list = append(list, `localhost\`+name)
	}
	if len(list) == 0 {
		list = []string{"localhost"}
	}
	return list
}

// ErrNone: nothing answers as the default SQL Server, and none is installed on this
// machine.
var ErrNone = errors.New("no SQL Server is installed on this machine")

// OpenFirst opens the first of the addresses' servers that lets us in; Server.Others
// are all the others, those too that did not. The error is that of the first, behind
// ErrNone where no address was told; ErrElsewhere, before anybody is asked, where one is of
// another machine.
func OpenFirst(ctx context.Context, o Options) (*Server, error) {
	addresses, err := Addresses(o.Address)
	if err == nil {
		err = beside(addresses)
	}
	if err != nil {
		return nil, err
	}
	var all []error
	for i, address := range addresses {
		one := o
		one.Address = address
		s, err := Open(ctx, one)
		if err == nil {
			s.others = slices.Delete(slices.Clone(addresses), i, i+1)
			return s, nil
		}
		all = append(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	err = errors.Join(all...)
	if said := (*server.Error)(nil); len(strings.Fields(o.Address)) == 0 && ctx.Err() == nil && !errors.As(err, &said) && bare() {
		err = fmt.Errorf("%w: %w", ErrNone, err)
	}
	return nil, err
}
