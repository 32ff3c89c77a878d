package pipe

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tund/internal/keys"
)

var update = flag.Bool("update", false, "write the golden files anew")

// catalogue holds one message of every type, with no field at its zero value where
// the type permits that.
func catalogue() []Message {
	return []Message{
		Hello{Version: Version, PID: 4711},
		Configure{
			Seq: 1, Mode: ModeTAP, Keepalive: 25 * time.Second, KeyLifetime: time.Hour,
			Offloads: OffloadCsum | OffloadUDPGRO, Await: true,
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		},
		Configured{Seq: 2},
		&InstallKey{
			KeyID: 3, Epoch: 4, AEAD: keys.ChaCha20Poly1305, Send: dataKey(0x10), Receive: dataKey(0x80),
			SendIndex: 0x010203, ReceiveIndex: 0xfffefd, Activate: true, PartialCsum: true,
		},
		InstallIV{KeyID: 5, Generation: 6, SendIndex: 7, ReceiveIndex: 8, Activate: true},
		Installed{KeyID: 9, Generation: 10, Err: "no room"},
		Activate{KeyID: 11, Generation: 12},
		KeyActive{KeyID: 13, Generation: 14},
		Retire{KeyID: 15, Generation: 16},
		Drop{KeyID: 17, Generation: 18},
		Displace{KeyID: 97, Generation: 98},
		Displaced{KeyID: 99, Generation: 100, Kept: true},
		Wipe{Seq: 19},
		Wiped{Seq: 20},
		GetStats{Seq: 21},
		Stats{
			Seq: 22, RxBytes: 23, TxBytes: 24, RxPackets: 25, TxPackets: 26,
			Drops: Drops{
				Auth: 27, Replay: 28, Malformed: 29, Unknown: 30, Queue: 31, Source: 32, Device: 33, Send: 34, NoKey: 35,
			},
			Received: 36, Missing: 37, SendKey: 38, SendGeneration: 39, ReceiveSlots: 40,
			LastReceived: -1, RTT: 41 * time.Millisecond,
			Engine: "go", Offloads: offloadsKnown, Sandbox: WallNoNewPrivs | WallSeccomp,
			Fallbacks: Fallbacks{Sends: 50, Writes: 51, Checksums: 52},
		},
		SendProbe{ID: 42},
		ProbeResult{
			ID: 43, OK: true, RTT: 44 * time.Microsecond, Received: 45, Missing: 46, LocalReceived: 47, LocalMissing: 48,
		},
		RekeyDue{KeyID: 49, Reason: RekeyBytes},
		Urgent{Thread: 90},
		Stop{},
		Fatal{Reason: "device gone"},
		HandOver{},
		keyState(),
		handedOver(),
		Resume{Seq: 53, End: handedOver()},
		Resumed{Seq: 54, Err: "no clock"},
	}
}

// dataKey makes a key of 44 different bytes.
func dataKey(first byte) keys.DataKey {
	var k keys.DataKey
	for i := range k.Key {
		k.Key[i] = first + byte(i)
	}
	for i := range k.IV {
		k.IV[i] = first + 0x40 + byte(i)
	}
	return k
}

// keyState is a sample of the message that is sent by pointer.
func keyState() *KeyState {
	m := &KeyState{
		KeyID: 60, Epoch: 61, AEAD: keys.AES256GCM, Send: dataKey(0x10), Receive: dataKey(0x80), PartialCsum: true,
		Installed: time.Hour, Next: 62, SendBytes: 63, ReceiveBytes: 64, FailedOpens: 65,
		SendOver: true, ReceiveOver: true, DuePackets: true, DueBytes: true,
		Slots: []SlotState{
			{Generation: 66, SendIndex: 67, ReceiveIndex: 68, Heard: true, Announced: true, Retired: true},
			{Generation: 69, SendIndex: 70, ReceiveIndex: 71},
		},
	}
	m.Window.Next, m.Window.Received = 9000, 1000
	for i := range m.Window.Seen {
		m.Window.Seen[i] = uint64(i)<<32 | 1
	}
	return m
}

func handedOver() HandedOver {
	return HandedOver{
		Keys: 1, SendKey: 72, SendGeneration: 73, FloorKey: 74, FloorGeneration: 75, NewestKey: 76,
		Totals: Totals{
			RxBytes: 77, TxBytes: 78, RxPackets: 79, TxPackets: 80,
			Drops: Drops{
				Auth: 81, Replay: 82, Malformed: 83, Unknown: 84, Queue: 85, Source: 86, Device: 87, Send: 88, NoKey: 89,
			},
			Received: 90, Missing: 91, Fallbacks: Fallbacks{Sends: 92, Writes: 93, Checksums: 94},
			LastReceived: -1, LastSent: 95, RTT: 96,
		},
	}
}

// sender is the role that may send m.
func sender(m Message) Role {
	if maySend(Child, m.Type()) {
		return Child
	}
	return Parent
}

// frame returns the bytes of m on the pipe.
func frame(t *testing.T, m Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := NewConn(nil, &b, sender(m)).Send(m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// receiver returns the end that gets p, the greeting done.
func receiver(p []byte, from Role) *Conn {
	c := NewConn(bytes.NewReader(p), nil, from.other())
	c.greeted = true
	for _, m := range catalogue() {
		if c.ledger != nil {
			c.ledger.ask(m.Type()) // so that it takes an answer of any type
		}
	}
	return c
}

func name(m Message) string {
	return strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", m), "*"), "pipe.")
}

// oneWay says whether only one side may send m.
func oneWay(m Message) bool { return m.Type() != TypeHello && m.Type() != TypeKeyState }

func TestEveryTypeOfTheCatalogueHasASample(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "message.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string]bool{}
	for _, m := range catalogue() {
		samples["Type"+name(m)] = true
	}
	constants := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Type" {
				constants[spec.Names[0].Name] = true
			}
		}
		return true
	})
	if len(constants) < 10 || !reflect.DeepEqual(samples, constants) {
		t.Errorf("samples %v, constants %v", samples, constants)
	}
}

func TestEveryTypeHasItsOwnNumberAndOneSender(t *testing.T) {
	seen := map[Type]Message{}
	for _, m := range catalogue() {
		if other, dup := seen[m.Type()]; dup {
			t.Errorf("%T and %T share number %d", m, other, m.Type())
		}
		seen[m.Type()] = m
		parent, child := maySend(Parent, m.Type()), maySend(Child, m.Type())
		if (parent != child) != oneWay(m) || !parent && !child {
			t.Errorf("%T: parent may send %v, child may send %v", m, parent, child)
		}
	}
	if maySend(Parent, 0) || maySend(Child, 200) || maySend(0, TypeStop) {
		t.Error("an unknown type or role is permitted")
	}
}

func TestEveryMessageHasTheGoldenBytes(t *testing.T) {
	const file = "testdata/messages.txt"
	var b strings.Builder
	for _, m := range catalogue() {
		fmt.Fprintf(&b, "%s %s\n", name(m), hex.EncodeToString(frame(t, m)))
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("bytes differ from %s:\n%s", file, b.String())
	}
}

func TestEveryMessageSurvivesTheRoundTrip(t *testing.T) {
	for _, m := range catalogue() {
		got, err := receiver(frame(t, m), sender(m)).receiveAs(m)
		if err != nil {
			t.Errorf("%T: %v", m, err)
		} else if !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, want %+v", got, m)
		}
	}
}

// receiveAs receives m's type: a Hello is the first message or none.
func (c *Conn) receiveAs(m Message) (Message, error) {
	c.greeted = m.Type() != TypeHello
	return c.Receive()
}

func TestSendRefusesTheWrongDirection(t *testing.T) {
	for _, m := range catalogue() {
		if !oneWay(m) {
			continue
		}
		if err := NewConn(nil, io.Discard, sender(m).other()).Send(m); !errors.Is(err, ErrDirection) {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func TestReceiveRefusesTheWrongDirection(t *testing.T) {
	for _, m := range catalogue() {
		if !oneWay(m) {
			continue
		}
		if _, err := receiver(frame(t, m), sender(m).other()).Receive(); !errors.Is(err, ErrDirection) {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func TestReceiveWantsExactlyOneHelloAndItFirst(t *testing.T) {
	hello, stop := frame(t, Hello{Version: 1}), frame(t, Stop{})
	c := NewConn(bytes.NewReader(append(append(append([]byte{}, hello...), stop...), hello...)), nil, Child)
	if m, err := c.Receive(); err != nil || m != (Hello{Version: 1}) {
		t.Fatal(m, err)
	}
	if m, err := c.Receive(); err != nil || m != (Stop{}) {
		t.Fatal(m, err)
	}
	if _, err := c.Receive(); !errors.Is(err, ErrDirection) {
		t.Errorf("second hello: %v", err)
	}
	if _, err := NewConn(bytes.NewReader(stop), nil, Child).Receive(); !errors.Is(err, ErrDirection) {
		t.Errorf("stop before hello: %v", err)
	}
}

func TestReceiveTellsTheEndFromACut(t *testing.T) {
	whole := frame(t, Wiped{Seq: 1})
	for n := range whole {
		_, err := receiver(whole[:n], Child).Receive()
		if n == 0 {
			if err != io.EOF { //nolint:errorlint // the bare value is promised
				t.Errorf("closed between messages: %v", err)
			}
		} else if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestReceiveRefusesBadFrames(t *testing.T) {
	text := func(n int) string { return "0000" + fmt.Sprintf("%04x", n+3) + "13" + fmt.Sprintf("%04x", n) }
	tests := []struct {
		name string
		from Role
		hex  string
	}{
		{"length 0", Child, "0000000008"},
		{"length over the limit", Parent, "0010000102"},
		{"small message with a long body", Child, "0000080213"},
		{"unknown type", Child, "00000001ff"},
		{"body too short", Child, "000000080c00000000000001"},
		{"body too long", Child, "0000000a0c00000000000000010a"},
		{"key id 0", Child, "0000000d08" + "0000000000000000" + "00000000"},
		{"generation over its limit", Child, "0000000d08" + "0000000000000001" + "00010001"},
		{"reason 0", Child, "0000000a11" + "0000000000000001" + "00"},
		{"reason 4", Child, "0000000a11" + "0000000000000001" + "04"},
		{"bool 2", Parent, "0000001605" + "0000000000000001" + "00000001" + "00000001" + "00000001" + "02"},
		{"index 0", Parent, "0000001605" + "0000000000000001" + "00000001" + "00000000" + "00000001" + "00"},
		{"index over 24 bits", Parent, "0000001605" + "0000000000000001" + "00000001" + "01000000" + "00000001" + "00"},
		{"text beyond its limit", Child, text(1025) + strings.Repeat("61", 1025)},
		{"text that is not UTF-8", Child, text(1) + "ff"},
		{"text with an escape", Child, text(1) + "1b"},
		{"text with a new line", Child, text(1) + "0a"},
		{"text with a tab", Child, text(1) + "09"},
		{"text with a control character beyond ASCII", Child, text(2) + "c29b"},
		{"text with a change of direction", Child, text(3) + "e280ae"},
		{"mode 0", Parent, "0000002102" + "0000000000000001" + "00" + strings.Repeat("00", 23)},
		{"negative keepalive", Parent, "0000002102" + "0000000000000001" + "01" + "ff" + strings.Repeat("00", 22)},
		{"more prefixes than bytes", Parent, "0000002102" + "0000000000000001" + "01" + strings.Repeat("00", 19) + "ffffffff"},
		{"prefix of 5 bytes", Parent, "0000002802" + "0000000000000001" + "01" + strings.Repeat("00", 19) + "00000001" + "050a0000000008"},
		{"await 2", Parent, "0000002102" + "0000000000000001" + "01" + strings.Repeat("00", 18) + "02" + "00000000"},
		{"prefix of 33 bits", Parent, "0000002702" + "0000000000000001" + "01" + strings.Repeat("00", 19) + "00000001" + "040a00000021"},
	}
	for _, tt := range tests {
		p, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		p = append(p, make([]byte, 4096)...)
		if m, err := receiver(p, tt.from).Receive(); err == nil {
			t.Errorf("%s: parsed as %#v", tt.name, m)
		}
	}
}

func TestSendCutsLongTexts(t *testing.T) {
	long := strings.Repeat("ä", 2000) + "\xff"
	m, err := receiver(frame(t, Fatal{Reason: long}), Child).Receive()
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(Fatal).Reason; got != long[:maxText] {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestSendWritesSpacesForWhatIsNotPrintable(t *testing.T) {
	m, err := receiver(frame(t, Resumed{Seq: 1, Err: "a\nb\x1b[2J ä"}), Child).Receive()
	if err != nil || m != (Resumed{Seq: 1, Err: "a b [2J ä"}) {
		t.Errorf("%#v, %v", m, err)
	}
	m, err = receiver(frame(t, Stats{Engine: strings.Repeat("x", 1000)}), Child).Receive()
	if err != nil || len(m.(Stats).Engine) != maxName {
		t.Errorf("%#v, %v", m, err)
	}
}

func TestSendRefusesAConfigurationThatIsTooLong(t *testing.T) {
	m := Configure{Mode: ModeTUN, AllowedIPs: make([]netip.Prefix, maxFrame)}
	if err := NewConn(nil, io.Discard, Parent).Send(m); err == nil {
		t.Error("sent")
	}
}

// A file of 1 MiB holds no more networks than this.
func TestConfigurationHoldsAllNetworksOfAFile(t *testing.T) {
	sent := Configure{Mode: ModeTUN, AllowedIPs: slices.Repeat([]netip.Prefix{netip.MustParsePrefix("fd00::/8")}, 1<<20/len(`"fd::/8",`))}
	m, err := receiver(frame(t, sent), Parent).Receive()
	if err != nil {
		t.Fatal(err)
	}
	if got := len(m.(Configure).AllowedIPs); got != len(sent.AllowedIPs) {
		t.Errorf("%d of %d networks", got, len(sent.AllowedIPs))
	}
}

func TestBuffersHoldNoKeyBytesAfterUse(t *testing.T) {
	most := keyState()
	most.Slots = slices.Repeat(most.Slots, MaxStates/2)
	for _, m := range []Message{installKey(t), most} {
		var b bytes.Buffer
		parent := NewConn(nil, &b, Parent)
		out := parent.out[:cap(parent.out)]
		if err := parent.Send(m); err != nil {
			t.Fatal(err)
		}
		child := receiver(b.Bytes(), Parent)
		in := child.in[:cap(child.in)]
		if _, err := child.Receive(); err != nil {
			t.Fatal(err)
		}
		if &out[0] != &parent.out[:1][0] || &in[0] != &child.in[0] {
			t.Errorf("%T: a buffer was too small", m)
		}
		for name, buffer := range map[string][]byte{"send": out, "receive": in} {
			if !bytes.Equal(buffer, make([]byte, len(buffer))) {
				t.Errorf("%T: %s buffer: %x", m, name, buffer)
			}
		}
	}
}

func installKey(t *testing.T) *InstallKey {
	t.Helper()
	for _, sample := range catalogue() {
		if m, ok := sample.(*InstallKey); ok {
			return m
		}
	}
	t.Fatal("no sample")
	return nil
}

func TestWipeZeroesBothKeys(t *testing.T) {
	m, state := installKey(t), keyState()
	for _, each := range []Message{m, state, Hello{}} {
		WipeMessage(each)
	}
	for _, k := range []keys.DataKey{m.Send, m.Receive, state.Send, state.Receive} {
		if k != (keys.DataKey{}) {
			t.Error("key bytes are left")
		}
	}
}

func TestNoKeyIsEverPrinted(t *testing.T) {
	for _, m := range []any{installKey(t), *installKey(t), []*InstallKey{installKey(t)}, keyState(), *keyState(), []*KeyState{keyState()}, Message(keyState())} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d", "%q"} {
			s := fmt.Sprintf(verb, m)
			for _, bytes := range []string{"101112", "16 17 18", "0x10, 0x11", "10, 11", `\x10\x11`} {
				if strings.Contains(s, bytes) {
					t.Errorf("%s: %s", verb, s)
				}
			}
		}
	}
}

func TestSendKeepsConcurrentMessagesWhole(t *testing.T) {
	r, w := io.Pipe()
	out := NewConn(nil, w, Parent)
	const senders, each = 4, 50
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for range each {
				networks := slices.Repeat([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, i*10)
				if err := out.Send(Configure{Mode: ModeTUN, AllowedIPs: networks}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	in := NewConn(r, nil, Child)
	in.greeted = true
	for range senders * each {
		if _, err := in.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestNamesOfModesAndReasons(t *testing.T) {
	for want, got := range map[string]string{
		"tun": ModeTUN.String(), "tap": ModeTAP.String(), "packets": RekeyPackets.String(),
		"bytes": RekeyBytes.String(), "expired": RekeyExpired.String(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if Mode(9).String() != "invalid" || RekeyReason(9).String() != "invalid" {
		t.Error("an invalid value has a name")
	}
}

func FuzzReceive(f *testing.F) {
	for _, m := range catalogue() {
		var b bytes.Buffer
		if err := NewConn(nil, &b, sender(m)).Send(m); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), sender(m) == Parent)
	}
	f.Fuzz(func(t *testing.T, p []byte, fromParent bool) {
		from := Child
		if fromParent {
			from = Parent
		}
		c := receiver(p, from)
		c.greeted = len(p) < headSize || Type(p[4]) != TypeHello
		m, err := c.Receive()
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := NewConn(nil, &b, from).Send(m); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(p, b.Bytes()) {
			t.Errorf("%x parsed as %#v, encoded as %x", p, m, b.Bytes())
		}
	})
}

func TestEveryWallHasItsName(t *testing.T) {
	if got, want := AllWalls.Names(), []string{"no-new-privs", "landlock", "seccomp", "not-root"}; !slices.Equal(got, want) {
		t.Errorf("called %q, want %q", got, want)
	}
	if names := Walls(0).Names(); len(names) != 0 {
		t.Errorf("no wall is called %q", names)
	}
}

func TestEveryOffloadHasItsName(t *testing.T) {
	seen := map[string]bool{}
	for bit := OffloadCsum; bit <= offloadsKnown; bit <<= 1 {
		names := bit.Names()
		if len(names) != 1 || seen[names[0]] {
			t.Errorf("offload %#x is called %q", bit, names)
			continue
		}
		seen[names[0]] = true
	}
	if names := Offloads(0).Names(); len(names) != 0 {
		t.Errorf("no offload is called %q", names)
	}
}
