// Package wireshark_test shows captures of tund's datagrams and sessions to tshark, with
// the dissector, and compares what it sees with what was sent.
package wireshark_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tund/internal/keys"
	"tund/internal/wire"
)

const nobody = 65534

// booleans are words in newer versions.
var booleans = strings.NewReplacer("True", "1", "False", "0")

// readable is a directory that others may read.
func readable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// see writes a capture and returns what tshark shows of it: the fields of each packet that
// the filter selects.
func see(t *testing.T, c *capture, filter string, fields ...string) [][]string {
	t.Helper()
	program, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("no tshark here: package tshark")
	}
	dir := readable(t)
	dissector, err := os.ReadFile("tund.lua")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tund.lua"), dissector, 0o644); err != nil {
		t.Fatal(err)
	}
	c.write(t, filepath.Join(dir, "capture.pcap"))
	args := []string{"-n", "-X", "lua_script:tund.lua", "-r", "capture.pcap", "-Y", filter, "-T", "fields", "-E", "separator=|"}
	for _, field := range fields {
		args = append(args, "-e", field)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if os.Getuid() == 0 { // for whom newer versions load no scripts
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if err != nil || strings.Contains(stderr.String(), "tund.lua") {
		t.Fatalf("tshark: %v\n%s", err, stderr)
	}
	var rows [][]string
	for line := range strings.Lines(booleans.Replace(string(out))) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "|"))
	}
	return rows
}

func check(t *testing.T, got, want [][]string) {
	t.Helper()
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestDatagramsAreShownAsTheyWereEncoded(t *testing.T) {
	c := new(capture)
	ciphertext, tag := bytes.Repeat([]byte{0xaa}, 84), bytes.Repeat([]byte{0xbb}, wire.TagSize)
	for _, h := range []wire.Header{
		{Type: wire.TypeData, Index: 0xabcdef, Number: 1<<63 + 7},
		{Type: wire.TypeData, Flags: wire.FlagPartialChecksum, Index: 1, Number: 0},
		{Type: wire.TypeProbe, Index: wire.MaxIndex, Number: 2},
	} {
		c.datagram(7900, slices.Concat(h.Append(nil), ciphertext, tag))
	}
	c.datagram(7900, wire.Header{Type: wire.TypeData, Index: 5, Number: 3}.Append(nil), tag)
	c.datagram(7901, []byte("of something else, on another port"))
	a, b := hex.EncodeToString(ciphertext), hex.EncodeToString(tag)
	check(t, see(t, c, "tund", "tund.type", "tund.flags", "tund.flags.partial_checksum", "tund.index", "tund.number", "tund.length", "tund.ciphertext", "tund.tag"), [][]string{
		{"1", "0x00", "0", "0xabcdef", "9223372036854775815", "84", a, b},
		{"1", "0x01", "1", "0x000001", "0", "84", a, b},
		{"2", "0x00", "", "0xffffff", "2", "84", a, b},
		{"1", "0x00", "0", "0x000005", "3", "0", "", b},
	})
	check(t, see(t, c, "tund.number == 2", "_ws.col.Protocol", "_ws.col.Info", "_ws.expert"), [][]string{
		{"tund", "PROBE index 0xffffff number 2, 84 bytes", ""},
	})
}

// What a receiver must drop is marked with the reason, and nothing else is.
func TestWhatNoReceiverTakesIsMarked(t *testing.T) {
	c := new(capture)
	marks := []string{"tund.short", "tund.type.unknown", "tund.flags.reserved.set", "tund.index.zero"}
	var want [][]string
	for _, d := range []struct {
		mark  string
		first uint32
		size  int
		err   error
	}{
		{"tund.short", 0x10000001, wire.Overhead - 1, wire.ErrShort},
		{"tund.type.unknown", 0x30000001, wire.Overhead, wire.ErrType},
		{"tund.flags.reserved.set", 0x12000001, wire.Overhead, wire.ErrReserved},
		{"tund.flags.reserved.set", 0x21000001, wire.Overhead, wire.ErrReserved},
		{"tund.index.zero", 0x10000000, wire.Overhead, wire.ErrIndex},
		{"", 0x11000001, wire.Overhead, nil},
	} {
		datagram := make([]byte, d.size)
		binary.BigEndian.PutUint32(datagram, d.first)
		if _, err := wire.ParseHeader(datagram); !errors.Is(err, d.err) {
			t.Fatalf("%x: ParseHeader: %v, want %v", datagram, err, d.err)
		}
		c.datagram(7900, datagram)
		row := make([]string, len(marks))
		if i := slices.Index(marks, d.mark); i >= 0 {
			row[i] = "1"
		}
		want = append(want, row)
	}
	check(t, see(t, c, "tund", marks...), want)
}

func TestPreludeAndTheTLSBehindItAreShown(t *testing.T) {
	random, mac, hello := opening(t)
	begin := slices.Concat(random, mac, hello)
	c := new(capture)
	row := []string{hex.EncodeToString(random), hex.EncodeToString(mac), "1", "4588", ""} // 4588: X25519MLKEM768
	answer := []string{"", "", "", "", "40"}
	var want [][]string
	for i, cuts := range [][]int{{}, {20}, {48}, {50, 700}, {1400}} {
		c.begin(uint16(40000 + i))
		from := 0
		for _, to := range append(cuts, len(begin)) {
			c.segment(true, begin[from:to])
			from = to
		}
		c.segment(false, []byte{21, 3, 3, 0, 2, 2, 40}) // an alert
		want = append(want, row, answer)
	}
	check(t, see(t, c, "tls", "tund.prelude.random", "tund.prelude.mac", "tls.handshake.type", "tls.handshake.extensions_key_share_group", "tls.alert_message.desc"), want)
}

// A capture may begin in the middle of a session.
func TestSessionWithoutItsBeginningIsTLS(t *testing.T) {
	c := new(capture)
	c.begin(40000)
	c.segment(true, slices.Concat([]byte{23, 3, 3, 0, 100}, make([]byte, 100)))
	if rows := see(t, c, "tls.record.content_type == 23 && !tund_control", "frame.number"); len(rows) != 1 {
		t.Error("not shown as TLS")
	}
}

// opening returns the parts that a dialler sends first.
func opening(t *testing.T) (random, mac, hello []byte) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	go func() {
		config := &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, InsecureSkipVerify: true}
		_ = tls.Client(theirs, config).Handshake() // ends with ours
	}()
	hello = make([]byte, 5)
	if _, err := io.ReadFull(ours, hello); err != nil {
		t.Fatal(err)
	}
	hello = append(hello, make([]byte, binary.BigEndian.Uint16(hello[3:]))...)
	if _, err := io.ReadFull(ours, hello[5:]); err != nil {
		t.Fatal(err)
	}
	random = []byte("sixteen bytes...")
	sum := keys.PreludeMAC(keys.PublicKey{1}, [16]byte(random), sha256.Sum256(hello))
	return random, sum[:], hello
}
