package pipe

// Walls is the set of what confines a child. The zero value is none that is known.
type Walls uint8

// The walls of package sandbox.
const (
	WallNoNewPrivs Walls = 1 << iota // nothing that it executes gains a privilege
	WallLandlock                     // it opens no file
	WallSeccomp                      // it makes the system calls of a list only

	wallsKnown = WallSeccomp<<1 - 1
)

// Names returns the short names of the walls in the set, for status.
func (w Walls) Names() []string {
	words := [...]string{"no-new-privs", "landlock", "seccomp"}
	var names []string
	for i, word := range words {
		if w>>i&1 != 0 {
			names = append(names, word)
		}
	}
	return names
}
