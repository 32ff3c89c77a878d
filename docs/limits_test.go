package docs_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"math/big"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tund/internal/datapath"
)

// limits names the constant of the program that each row of the table of limits stands for.
var limits = map[string]string{
	"first pause before the next dial":              "session.backoffFirst",
	"longest pause before the next dial":            "session.backoffLast",
	"dials stay eager after a lost session":         "peer.eager",
	"largest first TLS record in bytes":             "session.maxRecord",
	"randoms remembered":                            "session.replayMemory",
	"wait for a good prelude":                       "session.preludeLimit",
	"spread of that wait":                           "session.preludeSpread",
	"TLS handshake of the dialler":                  "session.handshakeLimit",
	"answer of a client to the listener":            "session.answerLimit",
	"ordinary connections before a prelude":         "session.maxPreludes",
	"preferred connections before a prelude":        "session.maxPreferredPreludes",
	"of one host":                                   "session.maxPreludesPerHost",
	"of one site":                                   "session.maxPreludesPerSite",
	"ordinary handshakes at a time":                 "session.maxHandshakes",
	"preferred handshakes at a time":                "session.maxPreferredHandshakes",
	"ordinary handshakes per second":                "session.handshakesPerSecond",
	"preferred handshakes per second":               "session.preferredPerSecond",
	"ordinary handshakes in a burst":                "session.handshakeBurst",
	"preferred handshakes in a burst":               "session.preferredBurst",
	"handshakes of a host per second":               "session.hostPerSecond",
	"handshakes of a host in a burst":               "session.hostBurst",
	"handshakes of a site per second":               "session.sitePerSecond",
	"handshakes of a site in a burst":               "session.siteBurst",
	"interval of PING":                              "session.pingInterval",
	"silence that ends a session":                   "session.deadLimit",
	"answer of the older of two sessions":           "session.RivalLimit",
	"wait for a CLOSE of the other session":         "peer.wantedPause",
	"instance ids remembered":                       "peer.maxInstances",
	"age at which a session is replaced":            "peer.renewAfter",
	"sessions of a peer at once":                    "peer.sessionBurst",
	"sessions of a peer per second":                 "peer.sessionsPerSecond",
	"messages of a peer at once":                    "session.messageBurst",
	"messages of a peer per second":                 "session.messagesPerSecond",
	"REKEYs of a peer at once":                      "session.rekeyBurst",
	"REKEYs of a peer per second":                   "session.rekeysPerSecond",
	"REIVs of a peer at once":                       "session.reivBurst",
	"REIVs of a peer per second":                    "session.reivsPerSecond",
	"PINGs of a peer at once":                       "session.pingBurst",
	"PINGs of a peer per second":                    "session.pingsPerSecond",
	"sessions of a peer without HELLO":              "peer.maxGreeting",
	"first refusal after too much":                  "peer.firstPenalty",
	"longest refusal after too much":                "peer.lastPenalty",
	"memory of having sent too much":                "peer.forgive",
	"largest message in bytes":                      "session.MaxMessage",
	"keys of a message":                             "session.maxList",
	"largest text in bytes":                         "session.maxText",
	"wait for HELLO":                                "session.helloLimit",
	"PINGs without an answer":                       "session.maxPings",
	"wait for the reply of an exchange":             "session.replyLimit",
	"wait of a responder for its slot":              "session.installLimit",
	"wait for the end of an exchange":               "session.doneLimit",
	"wait of an initiator for its slot":             "session.carryLimit",
	"keys to receive with":                          "pipe.MaxKeys",
	"slots to receive with":                         "pipe.MaxSlots",
	"generations of an epoch":                       "keys.MaxGeneration",
	"old slots after the first datagram in a newer": "peer.retireGrace",
	"rest of an index":                              "keys.indexRest",
	"header of a datagram in bytes":                 "wire.HeaderSize",
	"numbers of the replay window":                  "replay.Size",
	"smallest PROBE in bytes":                       "wire.ProbeSize",
	"answers to PROBEs per second":                  "datapath.answersPerSecond",
	"wait for the answer to SHUTDOWN":               "session.shutdownLimit",
	"keys after SHUTDOWN":                           "peer.drain",
}

// limitRow is a line of the table of limits: | name | value | part |.
var limitRow = regexp.MustCompile(`(?m)^\| ([A-Za-z ]+) \| ([0-9.,^]+(?: s| h)?) \| ([0-9.]+) \|$`)

func TestDocumentedLimitsAreThoseOfTheProgram(t *testing.T) {
	text := document(t)
	rows := limitRow.FindAllStringSubmatch(part(t, text, "1.1"), -1)
	if len(rows) != len(limits) {
		t.Errorf("%d limits in the document, %d in the list here", len(rows), len(limits))
	}
	program := map[string]map[string]constant.Value{}
	for _, row := range rows {
		name, value, where := row[1], row[2], row[3]
		if !strings.Contains(part(t, text, where), value) {
			t.Errorf("%s: part %s does not say %q", name, where, value)
		}
		pkg, identifier, found := strings.Cut(limits[name], ".")
		if !found {
			t.Errorf("%s: which constant is it?", name)
			continue
		}
		if program[pkg] == nil {
			program[pkg] = constants(t, pkg)
		}
		got := program[pkg][identifier]
		if got == nil || got.ExactString() != number(t, value) {
			t.Errorf("%s: %s in the document, %s in %s", name, value, got, limits[name])
		}
	}
}

// part is the text below the head with this number, up to the next one of any level.
func part(t *testing.T, text, number string) string {
	t.Helper()
	head := regexp.MustCompile(`(?m)^##+ ` + regexp.QuoteMeta(number) + `\.? .*$`).FindStringIndex(text)
	if head == nil {
		t.Fatalf("no part %s", number)
	}
	section, _, _ := strings.Cut(text[head[1]:], "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	return section
}

// number reads 4096, 65,536, 2^30, and times in nanoseconds.
func number(t *testing.T, text string) string {
	t.Helper()
	digits, unit, timed := strings.Cut(strings.ReplaceAll(text, ",", ""), " ")
	if timed {
		d, err := time.ParseDuration(digits + unit)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(d.Nanoseconds())
	}
	if base, exponent, power := strings.Cut(digits, "^"); power {
		var b, e big.Int
		b.SetString(base, 10)
		e.SetString(exponent, 10)
		return b.Exp(&b, &e, nil).String()
	}
	return digits
}

// constants are those of one package, exported or not. Other packages than time are not
// looked at, so what depends on them is missing.
func constants(t *testing.T, pkg string) map[string]constant.Value {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join("..", "internal", pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	config := types.Config{
		Importer:    onlyTime{importer.ForCompiler(fset, "source", nil)},
		Error:       func(error) {}, // about all that is imported
		FakeImportC: true,
	}
	checked, _ := config.Check(pkg, fset, files, nil)
	values := map[string]constant.Value{}
	for _, name := range checked.Scope().Names() {
		if c, ok := checked.Scope().Lookup(name).(*types.Const); ok {
			values[name] = c.Val()
		}
	}
	return values
}

// onlyTime imports package time, and empty packages for all others.
type onlyTime struct{ types.Importer }

func (i onlyTime) Import(path string) (*types.Package, error) {
	if path == "time" {
		return i.Importer.Import(path)
	}
	empty := types.NewPackage(path, filepath.Base(path))
	empty.MarkComplete()
	return empty, nil
}

// keyLimit is a line of the table of what one key may do.
var keyLimit = regexp.MustCompile(`(?m)^\| (2\^\d+) datagrams (?:or (2\^\d+) bytes )?(with one key|sent|that did not open)`)

func TestDocumentedLimitsOfAKeyAreThoseOfTheProgram(t *testing.T) {
	l := datapath.ProtocolLimits()
	program := map[string][2]uint64{
		"with one key":      {l.RekeyPackets, l.RekeyBytes},
		"sent":              {l.SendPackets, l.SendBytes},
		"that did not open": {l.FailedOpens, 0},
	}
	rows := keyLimit.FindAllStringSubmatch(part(t, document(t), "7.4"), -1)
	if len(rows) != len(program) {
		t.Errorf("%d rows, not %d", len(rows), len(program))
	}
	for _, row := range rows {
		want := program[row[3]]
		if number(t, row[1]) != fmt.Sprint(want[0]) || row[2] != "" && number(t, row[2]) != fmt.Sprint(want[1]) {
			t.Errorf("%s: %s and %s in the document, %d and %d in the program", row[3], row[1], row[2], want[0], want[1])
		}
	}
}
