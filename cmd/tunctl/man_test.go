package main

import (
	"flag"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
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
		"options":  mantest.Options(root.PersistentFlags()),
		"commands": mantest.Commands(root),
	})
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
