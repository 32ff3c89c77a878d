package lab_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tund/e2e/lab"
)

// Two hosts with nothing but a link: what a lab measures must be true before anything
// is measured with it.
//
//	left ── 10.9.1.1, fd09:0:0:1::1 ── 10.9.1.2, fd09:0:0:1::2 ── right
func twoHosts(t *testing.T) (left, right *lab.Node, link *lab.Link) {
	t.Helper()
	if missing := lab.Need(); missing != "" {
		t.Skip(missing)
	}
	l := lab.New(t, lab.Binaries{})
	left, right = l.Node("left"), l.Node("right")
	return left, right, l.Link(left, right, 1500)
}

func TestPingCountsWhatIsLost(t *testing.T) {
	t.Parallel()
	left, right, link := twoHosts(t)
	for _, version := range []int{4, 6} {
		if r := left.Ping(link.Addr(right, version).String(), 3); r.Sent != 3 || r.Lost != 0 {
			t.Errorf("IPv%d: %v", version, r)
		}
	}
	ping := left.StartPing(link.Addr(right, 4).String())
	restore := right.Isolate(link)
	lost := ping.Sent()
	lab.Until(t, lab.Patience, "more requests", func() bool { return ping.Sent() > lost+20 })
	lost = ping.Sent() - lost - 1 // one may be on its way to be sent
	restore()
	if r := ping.Stop(); r.Lost < lost || r.Received == 0 || len(r.Missing) != 1 {
		t.Errorf("%d requests into the silence: %v", lost, r)
	}
	ping = left.StartPing(link.Addr(right, 6).String())
	lab.Until(t, lab.Patience, "answers", func() bool { return ping.Replies() > 10 })
	if r := ping.Stop(); r.Lost != 0 || r.Received < 10 {
		t.Errorf("no loss: %v", r)
	}
}

func TestSendVerifiesWhatItMoves(t *testing.T) {
	t.Parallel()
	left, right, link := twoHosts(t)
	moved, err := left.Send(t.Context(), right, link.Addr(right, 4), 5_000_001)
	if err != nil || moved.ReadBytes != 5_000_001 || moved.SentHash != moved.ReadHash {
		t.Errorf("%+v, %v", moved, err)
	}
	moved.ReadHash[0]++
	if moved.Check() == nil {
		t.Error("another hash was accepted")
	}
}

func TestFlowCountsWhatArrives(t *testing.T) {
	t.Parallel()
	left, right, link := twoHosts(t)
	// What is sent before the neighbour is known has to wait in a short queue.
	lab.Until(t, lab.Patience, "right answers", func() bool { return left.Answers(link.Addr(right, 6).String()) })
	f := lab.Flow{Count: 1001, Size: 1000, Run: 30, Rate: 20 << 20}
	got, err := left.Flow(t.Context(), right, link.Addr(right, 6), f)
	if err != nil || got.Check(0) != nil || got.Arrived != f.Count {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := right.Lose(link, 25); err != nil {
		t.Fatal(err)
	}
	got, err = left.Flow(t.Context(), right, link.Addr(right, 6), f)
	if err != nil || got.Check(10) == nil || got.Arrived == 0 || got.Twice+got.Changed != 0 {
		t.Errorf("with losses: %+v, %v", got, err)
	}
}

func TestVerifierTellsWrongFramesFromRightOnes(t *testing.T) {
	t.Parallel()
	left, right, link := twoHosts(t)
	offloaded := right.Verify(link.Interface(right), 1500)
	if _, err := left.Send(t.Context(), right, link.Addr(right, 4), 1<<20); err != nil {
		t.Fatal(err)
	}
	if found := offloaded.Stop(); found.WrongFrames == 0 || len(found.Wrong) == 0 {
		t.Errorf("with offloads: %+v", found)
	}
	if err := link.Bare(nil); err != nil {
		t.Fatal(err)
	}
	complete := right.Verify(link.Interface(right), 1500)
	for _, version := range []int{4, 6} {
		if _, err := left.Send(t.Context(), right, link.Addr(right, version), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if found := complete.Stop(); found.WrongFrames > 0 || found.TCP < 1000 || found.Tagged > 0 {
		t.Errorf("without: %+v", found)
	}
	wrong := right.Verify(link.Interface(right), 1500)
	const virtioHeader = 10
	left.SendFrame(link.Interface(left), lab.TaggedSuperFrame(7, unix.IPPROTO_UDP, 1, 100)[virtioHeader:])
	lab.Until(t, lab.Patience, "a frame", func() bool { return wrong.Found().Tagged > 0 })
	if found := wrong.Stop(); found.WrongFrames != 1 || found.Tagged != 1 || !strings.Contains(found.Wrong[0], "transport checksum") {
		t.Errorf("an unfinished checksum: %+v", found)
	}
}

func TestConversationGoesOnAfterSilence(t *testing.T) {
	t.Parallel()
	left, right, link := twoHosts(t)
	conversation := left.Converse(right, link.Addr(right, 6))
	restore := right.Drop("tcp dport 1-65535")
	if err := conversation.Say(300 * time.Millisecond); err == nil {
		t.Error("heard something in the silence")
	}
	restore()
}

func TestCaptureAndInject(t *testing.T) {
	t.Parallel()
	for _, version := range []int{4, 6} {
		left, right, link := twoHosts(t)
		to := netip.AddrPortFrom(link.Addr(right, version), lab.Port)
		conn := listenUDP(t, right)
		capture := left.Capture(link.Interface(left))
		payload := slices.Repeat([]byte{0x10, 1, 2, 3}, 10)
		if err := left.SendUDP(to, [][]byte{payload}); err != nil {
			t.Fatal(err)
		}
		receive(t, conn, payload)
		segments := capture.Stop()
		at := slices.IndexFunc(segments, lab.Segment.IsData)
		if at < 0 || segments[at].Dest != to || segments[at].Index() != 0x010203 {
			t.Fatalf("captured %+v", segments)
		}
		left.Inject(link.Interface(left), segments[at:at+1])
		receive(t, conn, payload)
		for _, other := range [][]byte{{1}, slices.Repeat([]byte{7}, 1000)} {
			left.Inject(link.Interface(left), []lab.Segment{segments[at].WithPayload(other)})
			receive(t, conn, other)
		}
	}
}

// listenUDP opens a socket on a node.
func listenUDP(t *testing.T, n *lab.Node) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := n.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: lab.Port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// receive expects one datagram.
func receive(t *testing.T, conn *net.UDPConn, want []byte) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2000)
	size, err := conn.Read(buffer)
	if err != nil || !slices.Equal(buffer[:size], want) {
		t.Fatalf("received %d bytes, %v; want %d", size, err, len(want))
	}
}

func TestTaggedFramesAreHeardAsSent(t *testing.T) {
	t.Parallel()
	left, right, link := twoHosts(t)
	listener := right.ListenFrames(link.Interface(right))
	frame := lab.TaggedFrame(100, 500)
	// Until the kernel has noticed that a new wire is whole, it drops what is sent there.
	lab.Until(t, lab.Patience, "the frame is heard", func() bool {
		left.SendFrame(link.Interface(left), frame)
		heard, err := listener.Hears(frame, 200*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return heard
	})
}

// recorder is a test that may fail without being one.
type recorder struct {
	*testing.T
	errors   []string
	cleanups []func()
}

func (r *recorder) Errorf(format string, _ ...any) { r.errors = append(r.errors, format) }
func (r *recorder) Cleanup(f func())               { r.cleanups = append(r.cleanups, f) }

func TestLabReportsWhatIsLeft(t *testing.T) {
	t.Parallel()
	if missing := lab.Need(); missing != "" {
		t.Skip(missing)
	}
	r := &recorder{T: t}
	l := lab.New(r, lab.Binaries{})
	l.Hasty()
	n := l.Node("alone")
	sleeper := n.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	n.IP("link", "add", "name", "stray", "type", "bridge")
	lab.Until(t, lab.Patience, "the process is there", func() bool { return len(n.Leftovers(0)) == 2 })
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
	_ = sleeper.Wait()
	if !slices.ContainsFunc(r.errors, func(text string) bool { return strings.Contains(text, "left behind") }) {
		t.Errorf("errors: %q", r.errors)
	}
	if _, err := os.Stat("/run/netns/" + n.Namespace); err == nil {
		t.Error("the namespace is still there")
	}
}
