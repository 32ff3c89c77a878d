// Package internal_test holds the floor plan: which package may import which. The list
// of packages is the architecture, in layers, with arrows only downward; a new package
// or arrow is a decision, made here in the same commit.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tund/"

// layers lists every package, lowest layer first, with all that it may import of this
// module.
var layers = []map[string][]string{
	{ // 0, vocabulary: no goroutine, no input or output, no clock
		"internal/wire":    {},
		"internal/replay":  {"internal/wire"},
		"internal/segment": {},
		"internal/keys":    {"internal/wire"},
		"internal/config":  {"internal/keys"},
		"internal/invite":  {"internal/config", "internal/keys"},
		"internal/parts":   {},
	},
	{ // 1, edges: one facility of the system each
		"internal/aead":              {"internal/keys"},
		"internal/await":             {},
		"internal/cli":               {},
		"internal/journal":           {},
		"internal/mantest":           {},
		"internal/netcfg":            {"internal/parts"},
		"internal/pipe":              {"internal/keys", "internal/replay", "internal/wire"},
		"internal/sandbox":           {},
		"internal/sdnotify":          {},
		"internal/tuntap":            {"internal/await"},
		"internal/tuntap/tuntaptest": {"internal/tuntap"},
		"internal/udp":               {"internal/await"},
		"internal/vmgen":             {},
		"internal/watch":             {},
	},
	{ // 2, engines: one loop each
		"internal/ctl": {},
		"internal/datapath": {
			"internal/aead", "internal/await", "internal/keys", "internal/pipe", "internal/replay", "internal/segment", "internal/tuntap",
			"internal/udp", "internal/wire",
		},
		"internal/handover": {
			"internal/keys", "internal/netcfg", "internal/pipe", "internal/sdnotify", "internal/supervisor", "internal/tuntap",
			"internal/udp", "internal/wire",
		},
		"internal/session":    {"internal/keys", "internal/wire"},
		"internal/supervisor": {"internal/pipe", "internal/sandbox"},
	},
	{ // 3, one configured peer
		"internal/peer": {
			"internal/config", "internal/ctl", "internal/handover", "internal/keys", "internal/netcfg", "internal/parts", "internal/pipe",
			"internal/session", "internal/supervisor", "internal/tuntap", "internal/udp", "internal/wire",
		},
	},
	{ // 4, composition root
		"internal/daemon": {
			"internal/aead", "internal/config", "internal/ctl", "internal/handover", "internal/keys", "internal/netcfg", "internal/parts", "internal/peer",
			"internal/sdnotify", "internal/session", "internal/udp", "internal/vmgen", "internal/watch",
		},
	},
	{ // programs
		"cmd/tund": {
			"internal/aead", "internal/cli", "internal/config", "internal/ctl", "internal/daemon", "internal/datapath", "internal/journal",
			"internal/pipe", "internal/sandbox", "internal/sdnotify", "internal/tuntap", "internal/udp",
		},
		"cmd/tunctl": {"internal/cli", "internal/config", "internal/ctl", "internal/invite", "internal/keys", "internal/netcfg"},
	},
	{ // the system tests see the programs from outside only; bench borrows the cipher for a bound
		"e2e/lab":    {},
		"e2e/bench":  {"e2e/lab", "internal/aead", "internal/keys"},
		"e2e/demo":   {"e2e/lab"},
		"e2e/system": {"e2e/lab"},
		"e2e/vm":     {"e2e/lab", "e2e/system"},
	},
}

// childPackages are all that may run in a data child, whatever it imports.
var childPackages = []string{
	"internal/aead", "internal/await", "internal/datapath", "internal/keys", "internal/pipe", "internal/replay", "internal/sandbox",
	"internal/segment", "internal/tuntap", "internal/udp", "internal/wire",
}

func TestPackagesImportOnlyWhatTheFloorPlanAllows(t *testing.T) {
	allowed := plan()
	found := map[string][]string{}
	for _, root := range []string{"internal", "cmd", "e2e"} {
		for name, imports := range importsBelow(t, root) {
			found[name] = imports
			may, ok := allowed[name]
			if !ok {
				t.Errorf("%s is not on the floor plan", name)
				continue
			}
			for _, imported := range imports {
				if !slices.Contains(may, imported) {
					t.Errorf("%s imports %s, which the floor plan does not allow", name, imported)
				}
			}
		}
	}
	for name := range allowed {
		if _, ok := found[name]; !ok {
			t.Errorf("%s is on the floor plan, but does not exist", name)
		}
		for _, imported := range allowed[name] {
			if !slices.Contains(found[name], imported) {
				t.Errorf("%s may import %s on the floor plan, and does not", name, imported)
			}
		}
	}
}

func TestFloorPlanHasArrowsOnlyDownward(t *testing.T) {
	level := map[string]int{}
	for i, layer := range layers {
		for name := range layer {
			level[name] = i
		}
	}
	for i, layer := range layers {
		for name, imports := range layer {
			for _, imported := range imports {
				if lower, ok := level[imported]; !ok || lower > i {
					t.Errorf("%s may import %s, which is not below it", name, imported)
				}
			}
		}
	}
	if cycle := findCycle(layers); cycle != "" {
		t.Errorf("the floor plan has a cycle through %s", cycle)
	}
}

// A child imports nothing that knows the configuration, TLS or the control socket.
func TestDatapathReachesOnlyPackagesOfTheChild(t *testing.T) {
	allowed := plan()
	todo := []string{"internal/datapath"}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if !slices.Contains(childPackages, name) {
			t.Errorf("the datapath reaches %s", name)
			continue
		}
		todo = append(todo, allowed[name]...)
	}
}

// plan returns what each package may import.
func plan() map[string][]string {
	allowed := map[string][]string{}
	for _, layer := range layers {
		maps.Copy(allowed, layer)
	}
	return allowed
}

// findCycle returns a package that can reach itself within its layer, or "".
func findCycle(layers []map[string][]string) string {
	for _, layer := range layers {
		for start := range layer {
			seen, todo := map[string]bool{}, slices.Clone(layer[start])
			for len(todo) > 0 {
				name := todo[0]
				todo = todo[1:]
				if name == start {
					return start
				}
				if !seen[name] {
					seen[name] = true
					todo = append(todo, layer[name]...)
				}
			}
		}
	}
	return ""
}

// importsBelow returns, for each package in a tree with a file that is no test, what it
// imports of this module.
func importsBelow(t *testing.T, root string) map[string][]string {
	t.Helper()
	packages := map[string][]string{}
	top := os.DirFS("..")
	err := fs.WalkDir(top, root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := fs.ReadFile(top, path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		name := filepath.Dir(path)
		packages[name] = append(packages[name], "")
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if inner, ok := strings.CutPrefix(imported, module); ok {
				packages[name] = append(packages[name], inner)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, imports := range packages {
		slices.Sort(imports)
		packages[name] = slices.Compact(imports)[1:] // without the mark of existence
	}
	return packages
}
