package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/internal/config"
)

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no testdata: %v", err)
	}
	for _, path := range append(paths, "../../tund.toml.example") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse(testPath, data)
		if err != nil {
			checkProblems(t, err, data)
			return
		}
		checkRoundTrip(t, cfg)
	})
}

// checkProblems checks that each problem is one line and lies within the file.
func checkProblems(t *testing.T, err error, data []byte) {
	t.Helper()
	lines := strings.Count(string(data), "\n") + 1
	for _, p := range problems(t, err) {
		if p.Line < 0 || p.Line > lines || p.Message == "" || strings.Contains(p.Message, "\n") {
			t.Errorf("%+v in a file of %d lines", p, lines)
		}
	}
}

// FuzzLocate checks that every key that the library sees in a valid text has a line,
// and that the key's last part, or a quote, stands on it.
func FuzzLocate(f *testing.F) {
	for _, text := range []string{
		"a = 1\nb.c = 2\n[d]\ne = '''\nx\n'''\nf = [\n 1, # ]\n 2 ]\n",
		"[[a]]\r\nb = {c = 1, 'd' = [ {e = 2}, ]}\r\n",
		"\"\" = \"\\\"\"\n'' = \"\"\"a\"\"\"\"\"\n",
		"\xef\xbb\xbfa=1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, lines, ok := config.KeysAndLines([]byte(text))
		if !ok {
			return
		}
		count := strings.Count(text, "\n") + 1
		for _, key := range keys {
			if len(key) > 4 || strings.Contains(key.String(), `\`) {
				continue // deeper than what is noted, or with an escape
			}
			if line := lines[key.String()]; line < 1 || line > count {
				t.Errorf("%s is on line %d of %d in %q", key, line, count, text)
			}
		}
	})
}

func TestParseRefusesWhatWouldExhaustTheParser(t *testing.T) {
	for name, text := range map[string]string{
		"a file that is too large":   strings.Repeat("#", config.MaxFileSize+1),
		"lists in lists":             "a = " + strings.Repeat("[", config.MaxFileSize-4),
		"tables in tables":           "a = " + strings.Repeat("{a=", 10_000),
		"a key of many parts":        strings.Repeat("a.", config.MaxFileSize/2-3) + "a=1",
		"a header of many parts":     "[" + strings.Repeat(`"\"" . `, 10_000) + "a]",
		"a literal key of many dots": strings.Repeat("''.", 10_000) + "a=1",
	} {
		t.Run(name, func(t *testing.T) {
			begin := processorTime(t)
			if _, err := config.Parse(testPath, []byte(text)); len(problems(t, err)) != 1 {
				t.Errorf("got %v", err)
			}
			if d := processorTime(t) - begin; d > 10*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestParseBearsTheDeepestNestingThatIsLetThrough(t *testing.T) {
	for _, text := range []string{
		"[node]\nlisten = " + strings.Repeat("[", 49_000) + strings.Repeat("]", 49_000),
		"[node]\nlisten = " + strings.Repeat("{a=", 1000) + "1" + strings.Repeat("}", 1000),
		strings.Repeat("a.", 31) + "a = 1",
	} {
		if _, err := config.Parse(testPath, []byte(text)); len(problems(t, err)) == 0 {
			t.Error("accepted")
		}
	}
}

func TestTextOfALargeConfigurationIsReadInReasonableTime(t *testing.T) {
	cfg, err := config.Parse(testPath, []byte(manyPeers(3000)))
	if err != nil {
		t.Fatal(err)
	}
	begin := processorTime(t)
	again, err := config.Parse(testPath, []byte(cfg.Text()[:0]+manyPeers(3000)))
	if err != nil || !reflect.DeepEqual(cfg, again) {
		t.Fatalf("second parse differs: %v", err)
	}
	if d := processorTime(t) - begin; d > 20*time.Second {
		t.Errorf("3000 peers took %v", d)
	}
}

// processorTime is what this process has used of it: unlike the time on the wall it does
// not depend on what else the machine does.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func TestLinesAreFoundWhateverTheSpelling(t *testing.T) {
	_, lines, ok := config.KeysAndLines([]byte("\xef\xbb\xbf# x\n'a b' = '''\n]'''\n\"c\\u0064\".e = [ # [\n\n 1, {f = 2},\n]\r\n[[ g . \"h\" ]]\ni = {j = {k = \"\\\"\"},\n l = 1}\n"))
	want := map[string]int{
		`"a b"`: 2, "cd": 4, "cd.e": 4, "cd.e[0]": 6, "cd.e[1]": 6, "cd.e.f": 6,
		"g": 8, "g.h": 8, "g.h.i": 9, "g.h.i.j": 9, "g.h.i.l": 10,
	}
	if !ok || !reflect.DeepEqual(lines, want) {
		t.Errorf("got %v, %v, want %v", lines, ok, want)
	}
}
