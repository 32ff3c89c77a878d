package config_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tund/internal/config"
	"tund/internal/mantest"
)

const manPage = "../../docs/man/tund.toml.5"

func TestManPageHasTheKeysOfTheSchema(t *testing.T) {
	mantest.Check(t, manPage, *update, map[string]string{"node": described("node"), "peer": described("peer")})
}

// described is the list of the keys of a table.
func described(table string) string {
	var page strings.Builder
	page.WriteString(".Bl -tag -width Ds\n")
	for _, k := range config.Schema() {
		if k.Table != table {
			continue
		}
		fmt.Fprintf(&page, ".It Cm %s No = Ar %s\n%s", k.Name, mantest.Word(k.Type), mantest.Text(k.Doc))
		switch {
		case k.Required:
			page.WriteString("There must be one.\n")
		case k.Default != "":
			fmt.Fprintf(&page, "Default:\n.Ql %s .\n", mantest.Word(k.Default))
		case !strings.Contains(k.Doc, "Default:"):
			page.WriteString("Default: none.\n")
		}
		fmt.Fprintf(&page, "Class:\n.Cm %s .\n", k.Class)
	}
	page.WriteString(".El\n")
	return page.String()
}

func TestManPageExplainsTheClassesThatKeysHave(t *testing.T) {
	page, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n.Ss What a change costs\n")
	section, _, _ = strings.Cut(section, "\n.Sh ")
	var explained, had []string
	for _, item := range regexp.MustCompile(`(?m)^\.It Cm (\w+)$`).FindAllStringSubmatch(section, -1) {
		explained = append(explained, item[1])
	}
	for _, k := range config.Schema() {
		had = append(had, string(k.Class))
	}
	slices.Sort(explained)
	slices.Sort(had)
	if had = slices.Compact(had); !slices.Equal(explained, had) {
		t.Errorf("the page explains the classes %v, keys have %v", explained, had)
	}
}

// The examples of the page are whole configurations, each under an "[node]".
func TestExamplesOfTheManPageAreAccepted(t *testing.T) {
	page, err := os.ReadFile(manPage)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile(`(?s)\n\.Bd -literal -offset indent\n(\[node\].*?)\.Ed\n`).FindAllSubmatch(page, -1)
	if len(examples) != 2 {
		t.Fatalf("%d examples, want 2", len(examples))
	}
	for _, example := range examples {
		if _, err := config.Parse(testPath, example[1]); err != nil {
			t.Errorf("%v\n%s", err, example[1])
		}
	}
}

// The package brings this configuration, and it stays right when its peer is uncommented.
func TestPackagedConfigurationIsAcceptedWithAndWithoutItsPeer(t *testing.T) {
	data, err := os.ReadFile("../../packaging/tund.toml")
	if err != nil {
		t.Fatal(err)
	}
	idle, err := config.Parse(testPath, data)
	if err != nil || len(idle.Peers) != 0 {
		t.Fatalf("as it is: %v, %d peers", err, len(idle.Peers))
	}
	text := regexp.MustCompile(`(?m)^# (\[peer\.|[a-z_]+ +=)`).ReplaceAllString(string(data), "$1")
	text = strings.Replace(text, `public_key = ""`, `public_key = "`+publicKey("other")+`"`, 1)
	with, err := config.Parse(testPath, []byte(text))
	if err != nil || len(with.Peers) != 1 {
		t.Errorf("with its peer: %v\n%s", err, text)
	}
}
