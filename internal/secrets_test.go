package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// A traceback shows the first words of all that the functions on a stack were given: after a panic,
// and at a SIGABRT of the service manager's watchdog. What holds key bytes is therefore
// given by its address only.
var secretTypes = map[string]bool{
	"keys.Secret": true, "keys.DataKey": true, "keys.Material": true, "keys.Input": true,
	"config.Node": true, "config.Config": true,
	"pipe.InstallKey": true, "pipe.KeyState": true, "session.InstallKey": true,
}

func TestNoTracebackShowsKeys(t *testing.T) {
	for _, root := range []string{".", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for at, name := range secretsIn(t, path) {
				t.Errorf("%s: a function takes %s by value", at, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// secretsIn finds the parameters of a file that hold key bytes, and receivers that are used.
func secretsIn(t *testing.T, path string) map[string]string {
	t.Helper()
	files, found := token.NewFileSet(), map[string]string{}
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	note := func(list *ast.FieldList, named bool) {
		if list == nil {
			return
		}
		for _, field := range list.List {
			if name := typeName(file, field.Type); secretTypes[name] && (!named || len(field.Names) > 0) {
				found[files.Position(field.Pos()).String()] = name
			}
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch f := node.(type) {
		case *ast.FuncDecl:
			note(f.Recv, true)
		case *ast.FuncType:
			note(f.Params, false)
		}
		return true
	})
	return found
}

// typeName is the name of a type with its package, of a pointer or anything composed "".
func typeName(file *ast.File, x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return file.Name.Name + "." + x.Name
	case *ast.SelectorExpr:
		if pkg, ok := x.X.(*ast.Ident); ok {
			return pkg.Name + "." + x.Sel.Name
		}
	}
	return ""
}
