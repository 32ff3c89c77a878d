package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tund/internal/ctl"
	"tund/internal/mantest"
)

var update = flag.Bool("update", false, "write the made parts of the man page anew")

const manPage = "../../docs/man/tunctl.8"

func TestManPageHasTheCommandsAndOptionsOfTheProgram(t *testing.T) {
	t.Setenv("TUND_SOCKET", "")
	root := newRoot(&program{stdout: io.Discard, stderr: io.Discard})
	mantest.Check(t, manPage, *update, map[string]string{
		"options":  mantest.Options(root.LocalFlags()),
		"commands": mantest.Commands(root),
	})
}

// The page lists the commands that do something where no daemon is to be reached: each is tried.
func TestManPageHasTheCommandsThatNeedNoDaemon(t *testing.T) {
	page, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(page), "need no daemon")
	text = text[strings.LastIndex(text, "\n.Xr tund 8")+1:]
	text = text[strings.Index(text, "until it is done."):]
	var got, want []string
	for _, word := range regexp.MustCompile(`(?m)^\.Cm (\S+)`).FindAllStringSubmatch(text, -1) {
		got = append(got, word[1])
	}
	t.Setenv("TUND_SOCKET", filepath.Join(t.TempDir(), "none"))
	for _, c := range newRoot(&program{stdout: io.Discard, stderr: io.Discard}).Commands() {
		args := []string{c.Name()}
		if strings.Contains(c.Use, "PEER") || strings.Contains(c.Use, "FILE") {
			args = append(args, "no-such-peer-or-file")
		}
		if run(args, strings.NewReader(""), io.Discard, io.Discard) != exitUnreachable {
			want = append(want, c.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the page lists %v, want %v", got, want)
	}
}

// listed are the words that head the items of a section of the page.
func listed(t *testing.T, section string) (words []string) {
	t.Helper()
	page, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	body := regexp.MustCompile(`(?s)\n\.Sh ` + section + `\n(.*?)\n\.Sh `).FindSubmatch(page)
	if body == nil {
		t.Fatalf("no section %s", section)
	}
	for _, item := range regexp.MustCompile(`(?m)^\.It (?:Li|Er|Cm) (\S+)$`).FindAllSubmatch(body[1], -1) {
		words = append(words, string(item[1]))
	}
	return words
}

func TestManPageHasTheExitStatusesOfTheProgram(t *testing.T) {
	var want []string
	for _, status := range []int{exitDone, exitFailed, exitUsage, exitUnreachable, exitForbidden, exitPartly} {
		want = append(want, strconv.Itoa(status))
	}
	if got := listed(t, "EXIT STATUS"); !slices.Equal(got, want) {
		t.Errorf("exit statuses of the page: %v, want %v", got, want)
	}
}

func TestManPageHasTheStatesOfPeers(t *testing.T) {
	var want []string
	for _, state := range ctl.States() {
		want = append(want, string(state))
	}
	if got := listed(t, "STATES"); !slices.Equal(got, want) {
		t.Errorf("states of the page: %v, want %v", got, want)
	}
}
