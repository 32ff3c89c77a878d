package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"tund/internal/config"
	"tund/internal/mantest"
)

var update = flag.Bool("update", false, "write the made parts of the man page anew")

const manPage = "../../docs/man/tund.8"

func TestManPageHasTheCommandsAndOptionsOfTheProgram(t *testing.T) {
	t.Setenv("TUND_SOCKET", "")
	root := command()
	mantest.Check(t, manPage, *update, map[string]string{
		"options":  mantest.Options(root.Flags()),
		"commands": mantest.Commands(root),
	})
}

func TestManPageHasTheExitStatusesOfTheProgram(t *testing.T) {
	page, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n.Sh EXIT STATUS\n")
	section, _, _ = strings.Cut(section, "\n.Sh ")
	for _, status := range []int{0, statusOf(errors.New("any")), statusOf(&config.Errors{})} {
		if !strings.Contains(section, fmt.Sprintf("\n.It Li %d\n", status)) {
			t.Errorf("exit status %d is not on the page", status)
		}
	}
	if n := strings.Count(section, "\n.It "); n != 3 {
		t.Errorf("%d exit statuses on the page, want 3", n)
	}
}
