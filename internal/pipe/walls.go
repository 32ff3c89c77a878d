package pipe

// Walls is the set of what confines a child. The zero value is none that is known.
type Walls uint8

// The walls of package sandbox.
const (
	WallNoNewPrivs Walls = 1 << iota // nothing that it executes gains a privilege
	WallLandlock                     // it opens no file
	WallSeccomp                      // it makes the system calls of a list only
	WallUser                         // none of its ids is root's

	// AllWalls is what a child has where its machine and its parent's rights offer everything.
	AllWalls = WallUser<<1 - 1
)

// Lacking returns the short names of the walls that are not in the set.
func (w Walls) Lacking() []string { return (AllWalls &^ w).Names() }

// Names returns the short names of the walls in the set, for status.
func (w Walls) Names() []string {
	words := [...]string{"no-new-privs", "landlock", "seccomp", "not-root"}
	var names []string
	for i, word := range words {
		if w>>i&1 != 0 {
			names = append(names, word)
		}
	}
	return names
}
