package ctl

// maxTypos is how far a name may be from what was typed to be suggested.
const maxTypos = 2

// Nearest returns the name that is closest to what was typed, or "" if none is near.
func Nearest(typed string, names []string) string {
	best, nearest := maxTypos+1, ""
	for _, name := range names {
		if d := distance(typed, name); d < best && d < len(name) {
			best, nearest = d, name
		}
	}
	return nearest
}

// distance is the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
