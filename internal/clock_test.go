package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The wall clock jumps: by hand, by NTP after a boot without a battery. Nothing that tund does may
// depend on it. Go's timers and differences of time.Now do not, as long as no value goes
// through one of these, which strip the reading of the monotonic clock or make a time without one.
var wallClock = []string{
	"Unix", "UnixNano", "UnixMicro", "UnixMilli", "Date", "Parse", "ParseInLocation", "UTC", "In",
	"CLOCK_REALTIME", "CLOCK_REALTIME_COARSE", "CLOCK_TAI", "Gettimeofday",
}

// wallClockUsers may, and why.
var wallClockUsers = map[string]string{
	"watch/snapshot.go":   "whether a file's time has changed, not which it is",
	"session/identity.go": "a certificate that is valid at any time: the key in it is what counts",
	"sdnotify/store.go":   "a deadline that has passed whatever the time is",
}

func TestWallClockMattersNowhere(t *testing.T) {
	used := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		for at, name := range wallClockIn(t, path) {
			if used[path] = true; wallClockUsers[path] == "" {
				t.Errorf("%s: %s is a matter of the wall clock", at, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, why := range wallClockUsers {
		if !used[path] {
			t.Errorf("%s may use the wall clock (%s), and does not", path, why)
		}
	}
}

// wallClockIn finds what a file calls of the list.
func wallClockIn(t *testing.T, path string) map[string]string {
	t.Helper()
	files, found := token.NewFileSet(), map[string]string{}
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		s, ok := node.(*ast.SelectorExpr)
		if !ok || !slices.Contains(wallClock, s.Sel.Name) {
			return true
		}
		if x, isName := s.X.(*ast.Ident); s.Sel.Name != "Parse" || isName && x.Name == "time" { // others parse, too
			found[files.Position(s.Pos()).String()] = s.Sel.Name
		}
		return true
	})
	return found
}
