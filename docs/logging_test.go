package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// documentedKeys returns the keys in the table of logging.md.
func documentedKeys(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("logging.md")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| .+ \\|$").FindAllStringSubmatch(string(text), -1) {
		keys = append(keys, row[1])
	}
	if !slices.IsSorted(keys) {
		t.Errorf("logging.md is not sorted: %v", keys)
	}
	return keys
}

func TestLogKeysAreThoseOfTheList(t *testing.T) {
	documented := documentedKeys(t)
	used := 0
	for _, call := range logCalls(t) {
		for _, key := range call.keys {
			used++
			if !slices.Contains(documented, key) {
				t.Errorf("%s: log key %q is not in logging.md", call.at, key)
			}
		}
	}
	if used == 0 {
		t.Error("no log key found in the source")
	}
}

func TestLogMessagesAreConstantSentences(t *testing.T) {
	for _, call := range logCalls(t) {
		if call.problem != "" {
			t.Errorf("%s: %s", call.at, call.problem)
		}
	}
}

// logCall is one call of a method of slog.Logger in the source.
type logCall struct {
	at      token.Position
	keys    []string
	problem string
}

// logCalls finds the calls on anything whose name is log or Log, or ends so.
func logCalls(t *testing.T) []logCall {
	t.Helper()
	var calls []logCall
	files := token.NewFileSet()
	for _, root := range []string{"../internal", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				if call, ok := readLogCall(node); ok {
					call.at = files.Position(node.Pos())
					calls = append(calls, call)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return calls
}

// readLogCall takes a node apart if it is a call on a logger.
func readLogCall(node ast.Node) (call logCall, ok bool) {
	expression, ok := node.(*ast.CallExpr)
	if !ok {
		return call, false
	}
	method, ok := expression.Fun.(*ast.SelectorExpr)
	if !ok || !isLogger(method.X) {
		return call, false
	}
	arguments := expression.Args
	switch method.Sel.Name {
	case "With":
	case "Log":
		if _, constant := literal(arguments[2]); !constant {
			call.problem = "the message is not a constant"
		}
		arguments = arguments[3:]
	case "Debug", "Info", "Warn", "Error":
		if _, constant := literal(arguments[0]); !constant {
			call.problem = "the message is not a constant"
		}
		arguments = arguments[1:]
	default:
		return call, false
	}
	if expression.Ellipsis.IsValid() {
		return call, true
	}
	for i := 0; i < len(arguments); i += 2 {
		key, constant := literal(arguments[i])
		if !constant {
			call.problem = "a key is not a constant"
			continue
		}
		call.keys = append(call.keys, key)
	}
	return call, true
}

// isLogger reports whether an expression is named like a logger.
func isLogger(expression ast.Expr) bool {
	switch e := expression.(type) {
	case *ast.Ident:
		return strings.EqualFold(e.Name, "log")
	case *ast.SelectorExpr:
		return strings.EqualFold(e.Sel.Name, "log")
	default:
		return false
	}
}

// literal returns the value of a string literal.
func literal(expression ast.Expr) (string, bool) {
	basic, ok := expression.(*ast.BasicLit)
	if !ok || basic.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(basic.Value)
	return value, err == nil
}
