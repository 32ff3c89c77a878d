package main

import (
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIperfReportGivesWhatReceiversSaw(t *testing.T) {
	for _, test := range []struct {
		file        string
		bytes, rate float64
	}{
		{"tcp.json", 886e6, 7.1e9},
		{"both.json", 900e6, 7.2e9},
		{"silent.json", 0, 0},
	} {
		r, err := parseIperf(read(t, test.file))
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.flow()
		if err != nil || f.bytes != test.bytes || f.rate != test.rate {
			t.Errorf("%s: %+v, %v", test.file, f, err)
		}
	}
}

func TestIperfReportGivesDatagrams(t *testing.T) {
	r, err := parseIperf(read(t, "udp.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.trial()
	if want := (trial{sent: 40000, received: 39000, lost: 0.025}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestIperfReportOfAnErrorIsOne(t *testing.T) {
	for _, text := range []string{"", "iperf3: error", `{"error": "unable to connect"}`} {
		if _, err := parseIperf([]byte(text)); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
	if _, err := parseIperf([]byte(`{"error": "the server is busy running a test. try again later"}`)); !errors.Is(err, errBusy) {
		t.Errorf("a busy server: %v", err)
	}
	r, err := parseIperf([]byte(`{"end": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.flow(); err == nil {
		t.Error("streams without a sum: no error")
	}
	if _, err := r.trial(); err == nil {
		t.Error("datagrams without a count: no error")
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// pipe is a path that carries so many packets a second, and loses the rest.
func pipe(capacity, generator float64, asked *int) func(float64) (trial, error) {
	return func(rate float64) (trial, error) {
		*asked++
		sent := rate
		if rate == 0 || rate > generator {
			sent = generator
		}
		received := min(sent, capacity)
		return trial{sent: sent, received: received, lost: 1 - received/sent}, nil
	}
}

func TestSearchFindsTheRateFromAnyHint(t *testing.T) {
	for _, hint := range []float64{0, 20e3, 90e3, 100e3, 110e3, 300e3} {
		asked := 0
		best, err := search(hint, pipe(100e3, 400e3, &asked))
		if err != nil || math.Abs(best/100e3-1) > 0.16 || asked > trials {
			t.Errorf("from %v: %v after %d trials, %v", hint, best, asked, err)
		}
	}
}

func TestSearchEndsWhereTheGeneratorDoes(t *testing.T) {
	asked := 0
	best, err := search(0, pipe(100e3, 50e3, &asked))
	if err != nil || best != 50e3 || asked != 1 {
		t.Errorf("%v after %d trials, %v", best, asked, err)
	}
}

func TestSearchTellsThatNoRateIsGood(t *testing.T) {
	best, err := search(0, func(rate float64) (trial, error) {
		return trial{sent: max(rate, 1), received: 1, lost: 0.1}, nil
	})
	if err == nil {
		t.Errorf("%v, no error", best)
	}
}

func TestPercentileAndMedian(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(200-i))
	}
	if p50, p99 := percentile(times, 50), percentile(times, 99); p50 != 100 || p99 != 198 {
		t.Errorf("p50 %d, p99 %d", p50, p99)
	}
	if percentile(times[:1], 50) != 200 {
		t.Error("the percentile of one value is that value")
	}
	if median([]float64{3, 1, 2}) != 2 || median([]float64{4, 1, 2, 3}) != 2.5 {
		t.Error("median")
	}
}

func TestRatiosAreThoseWithinARound(t *testing.T) {
	own, other := series{0: 4, 1: 9, 2: 5}, series{0: 2, 1: 3}
	if got := own.ratios(other); !slices.Equal(slices.Sorted(slices.Values(got)), []float64{2, 3}) {
		t.Errorf("%v", got)
	}
}

func TestBusyTimeLeavesOutIdleAndStolen(t *testing.T) {
	got, err := parseBusy("cpu  100 10 200 9999 500 5 15 7777 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if err != nil || got != 3300*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "cpu 1 2 3", "cpu a 0 0 0 0 0 0 0 0 0"} {
		if _, err := parseBusy(text); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

func TestPlanMeasuresWhatIsAskedFor(t *testing.T) {
	for _, test := range []struct {
		only, skip            string
		systems, measurements int
	}{
		{"", "", len(systems()), len(measurements())},
		{"tund,fastd", "", 2, len(measurements())},
		{"tcp1", "none", len(systems()) - 1, 1},
		{"tund,tcp1,udp64", "", 1, 2},
		{"", "udp64,udp1200", len(systems()), len(measurements()) - 2},
	} {
		p, err := newPlan(settings{rounds: 1, seconds: 1, only: test.only, skip: test.skip})
		if err != nil || len(p.systems) != test.systems || len(p.measurements) != test.measurements {
			t.Errorf("-only %q -skip %q: %v", test.only, test.skip, err)
		}
	}
	for _, s := range []settings{{rounds: 1, seconds: 1, only: "nobody"}, {rounds: 0, seconds: 1}, {rounds: 1, seconds: 1, only: "tund", skip: "tund"}} {
		if _, err := newPlan(s); err == nil {
			t.Errorf("%+v: no error", s)
		}
	}
}

func TestNamesOfSystemsAndMeasurementsDiffer(t *testing.T) {
	all := strings.Split(names(systems())+","+names(measurements()), ",")
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("%v", all)
	}
}

func TestBarsAndOverviewNameMetricsThatExist(t *testing.T) {
	known := strings.Split(names(systems()), ",")
	for _, b := range bars() {
		metricOf(b.metric) // panics for an unknown one
		if !slices.Contains(known, b.system) || b.against != "" && !slices.Contains(known, b.against) {
			t.Errorf("bar of an unknown system: %+v", b)
		}
	}
	for _, column := range overview {
		metricOf(column.key)
	}
}

func TestReportIsAsItShouldBe(t *testing.T) {
	p, err := newPlan(settings{rounds: 2, seconds: 1, only: "tund,wireguard-go,fastd,tinc,plain,plain-aes"})
	if err != nil {
		t.Fatal(err)
	}
	r := newResults(p, []fact{{"kernel", "Linux 6"}})
	r.took = time.Minute
	for name, rates := range map[string][]float64{"tund": {8, 9}, "wireguard-go": {2, 1.5}, "fastd": {1}, "plain": {16}, "plain-aes": {12}} {
		r.versions[name] = "1.0"
		r.note(name, "a | b")
		for round, rate := range rates {
			r.add(name, "tcp1", round, rate)
		}
	}
	r.leftOut["tinc"] = "tincd is not installed"
	r.add("tund", "burst", 0, 0)
	r.add("tund", "burst", 1, 1.25)
	r.problems = []string{"fastd, round 2, start:\nnot within 20s"}
	got := r.report()
	for _, line := range []string{
		"| tund | 1.0 | a \\| b |",
		"| tinc | left out | tincd is not installed |",
		"| tund | 8.50 | 8.00 | 9.00 | 5.00 |",
		"| fastd | 1.00 | 1.00 | 1.00 | 0.50 |",
		"| TCP, one stream | tund | at least 4 × wireguard-go | 5.00 | met | 8.00 | 6.00 | – |",
		"| Bursts of 64 UDP packets of 64 bytes, lost of all | tund | at most 0 % | 1.25 | **not met** | – | – | – |",
		"| Ping, idle, p50 | tund | at most 0.5 × wireguard-go | – | not measured | – | – | – |",
		"- fastd, round 2, start: not within 20s",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("not in the report: %s", line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestProfileIsSharedOutByProcessAndSymbol(t *testing.T) {
	got, err := parseProfile(string(read(t, "profile.txt")), []int{4567, 4568})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"share-cipher": 20, "share-copy": 15, "share-switch": 10, "share-program": 5, "share-kernel": 10,
		shareLoad: 25, shareIdle: 5, shareOther: 10,
	}
	for key, share := range want {
		if math.Abs(got[key]-share) > 1e-9 {
			t.Errorf("%s: %v %%, want %v", key, got[key], share)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d shares, want %d", len(got), len(want))
	}
}

func TestProfileWithoutSamplesIsAnError(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "many; 1:x ;[k] y\n"} {
		if _, err := parseProfile(text, nil); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

func TestCommandIsWithoutTheFileForTheReport(t *testing.T) {
	for args, want := range map[string]string{
		"":                                  "`make bench`",
		"-out x.md":                         "`make bench`",
		"-rounds 1 --out=x.md -only tund":   "`make bench BENCHFLAGS='-rounds 1 -only tund'`",
		"-out x.md -skip udp64 -seconds=10": "`make bench BENCHFLAGS='-skip udp64 -seconds=10'`",
	} {
		if got := command(strings.Fields(args)); got != want {
			t.Errorf("command(%q) = %s, want %s", args, got, want)
		}
	}
}

// Whatever depends on the wire is measured over both.
func TestBothWiresAreMeasured(t *testing.T) {
	alone := []string{"ping-idle", "pss-idle", "carrier-idle"}
	keys := []string{}
	for _, m := range metrics {
		keys = append(keys, m.key)
	}
	if slices.Sort(keys); len(slices.Compact(slices.Clone(keys))) != len(keys) {
		t.Errorf("a metric twice: %v", keys)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, onSegmenting) && slices.Contains(alone, key) == slices.Contains(keys, onSegmenting+key) {
			t.Errorf("%s: measured over both wires %t", key, slices.Contains(keys, onSegmenting+key))
		}
	}
	names := strings.Split(names(measurements()), ",")
	for _, name := range []string{"tcp4", "reverse", "both", "load", "udp64", "udp1200", "burst", "loss"} {
		if !slices.Contains(names, name) || !slices.Contains(names, onSegmenting+name) {
			t.Errorf("%s is not measured over both wires", name)
		}
	}
}

// What is found belongs to the wire it was measured over.
func TestWhatIsFoundBelongsToItsWire(t *testing.T) {
	p, err := newPlan(settings{rounds: 1, seconds: 1, only: "tund"})
	if err != nil {
		t.Fatal(err)
	}
	r := newResults(p, nil)
	for _, wire := range []string{"", onSegmenting} {
		over := take{results: r, system: p.systems[0], wire: wire}
		over.found("tcp1", 5)
		if got := over.last("tcp1"); got != 5 || r.last("tund", wire+"tcp1") != 5 {
			t.Errorf("%s: %v", wire, got)
		}
	}
}
