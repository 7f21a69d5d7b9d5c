package direct

import (
	"context"
	"errors"
	"slices"
	"strings"
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

// OpenFirst opens the first of the addresses' servers that lets us in; Server.Others
// are all the others, those too that did not. The error is that of the first.
func OpenFirst(ctx context.Context, o Options) (*Server, error) {
	addresses, err := Addresses(o.Address)
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
	return nil, errors.Join(all...)
}
