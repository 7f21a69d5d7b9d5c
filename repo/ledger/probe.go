package ledger

// FirstFree finds the end of a dense sequence of names: the lowest number from
// on that is not taken, if every number between from and the end is. It asks twice the
// logarithm of the distance, and once if from is free. Where numbers are taken
// meanwhile the answer was right at some moment of the search. Errors are those of
// taken.
func FirstFree(from uint32, taken func(n uint32) (bool, error)) (uint32, error) {
	is, err := taken(from)
	if err != nil || !is {
		return from, err
	}
	low, high := from, from+1 // low is taken
	for step := uint32(1); ; step *= 2 {
		if is, err = taken(high); err != nil {
			return 0, err
		}
		if !is {
			break
		}
		low, high = high, high+2*step
	}
	for high-low > 1 {
		middle := low + (high-low)/2
		if is, err = taken(middle); err != nil {
			return 0, err
		}
		if is {
			low = middle
		} else {
			high = middle
		}
	}
	return high, nil
}
