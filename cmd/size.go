package cmd

import (
	"math"
	"strconv"
	"strings"
)

// parseSize reads a size as operators write it: 128K, 4M, 1.5G, 512 (bytes).
// Units are powers of 1024; iB and B behind them are allowed.
func parseSize(text string) (int64, error) {
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	factor := 1.0
	if n := len(number); n > 0 {
		if i := strings.IndexByte("KMGTP", number[n-1]); i >= 0 {
			factor, number = math.Pow(1024, float64(i+1)), number[:n-1]
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || v < 0 || math.IsNaN(v) || v*factor > math.MaxInt64/2 {
		return 0, usagef("write it like 128K, 4M or 1.5G", "%q is no size", text)
	}
	return int64(v * factor), nil
}
