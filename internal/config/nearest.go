package config

import "strings"

// maxTypos is how many letters a suggestion may be away from what was written.
const maxTypos = 2

// suggestion returns ` (did you mean "mtu"?)` for the name nearest to what was
// written, or "" where none is near.
func suggestion(written string, names []string) string {
	best, nearest := maxTypos+1, ""
	lower := strings.ToLower(written)
	for _, name := range names {
		if d := distance(lower, name); d < best && d < len(name) {
			best, nearest = d, name
		}
	}
	if nearest == "" {
		return ""
	}
	return ` (did you mean "` + nearest + `"?)`
}

// distance counts the bytes to insert, delete, replace or swap with their neighbour
// to make b of a.
func distance(a, b string) int {
	if len(a) > len(b)+maxTypos { // spares the work for absurdly long names
		return len(a)
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
