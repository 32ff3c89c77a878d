package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// pingInterval is the distance between the echo requests of a running Ping: ping rounds
// it up to the kernel's tick, and 10 ms would become 20 where that is 10.
const pingInterval = 9 * time.Millisecond

// replyLine matches one answer in the output of "ping -D".
var replyLine = regexp.MustCompile(`^\[(\d+)\.(\d{6})\] \d+ bytes from .*icmp_seq=(\d+) .*time=([\d.]+) ms`)

// sentLine matches the summary of ping.
var sentLine = regexp.MustCompile(`^(\d+) packets transmitted`)

// Ping is a running ping of at least 100 requests a second.
type Ping struct {
	node *Node
	cmd  *exec.Cmd
	done chan struct{} // closed when the output was read to its end

	mu      sync.Mutex
	replies []reply
	sent    int
	output  string // lines that are neither reply nor summary: errors, for the report
}

// reply is one answer: its request's number, when it came, how long it took.
type reply struct {
	seq  int
	at   time.Time
	took time.Duration
}

// PingResult says what became of a series of echo requests.
type PingResult struct {
	Sent, Received, Duplicates, Lost int

	// LongestGap is the longest time between two replies that followed each other.
	LongestGap time.Duration
	// LongestTime is the longest round trip.
	LongestTime time.Duration
	// Missing are the stretches of requests without an answer, with the time at which
	// each ended.
	Missing []string
	// Notes is what ping said besides: errors from the kernel or from hosts on the way.
	Notes string
}

// String returns the result in one line.
func (r PingResult) String() string {
	text := fmt.Sprintf("%d sent, %d lost, longest gap %v, longest round trip %v",
		r.Sent, r.Lost, r.LongestGap.Round(time.Millisecond), r.LongestTime.Round(100*time.Microsecond))
	if len(r.Missing) > 0 {
		text += ", missing " + strings.Join(r.Missing, ", ")
	}
	return text
}

// StartPing begins to ping an address 100 times a second and returns when the first
// answer is there. Extra arguments go to ping.
func (n *Node) StartPing(address string, args ...string) *Ping {
	n.lab.tb.Helper()
	p := n.ping(append([]string{"-i", fmt.Sprint(pingInterval.Seconds()), address}, args...)...)
	Until(n.lab.tb, 5*time.Second, "first answer of "+address+" to "+n.Name, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.replies) > 0
	})
	return p
}

// StartPingLater is StartPing for an address that does not answer yet.
func (n *Node) StartPingLater(address string) *Ping {
	n.lab.tb.Helper()
	return n.ping("-i", fmt.Sprint(pingInterval.Seconds()), address)
}

// Ping sends count requests, waits for the answers and returns the result. After the
// last request ping waits no longer than between two of them, if the answers before came
// fast: the pause must be longer than a busy machine may stall.
func (n *Node) Ping(address string, count int, args ...string) PingResult {
	n.lab.tb.Helper()
	p := n.ping(append([]string{"-i", "0.4", "-W", "2", "-c", strconv.Itoa(count), address}, args...)...)
	<-p.done
	_ = p.cmd.Wait() // the exit code says no more than the result
	return p.result(0)
}

// ping starts ping with these arguments and the reading of its output.
func (n *Node) ping(args ...string) *Ping {
	n.lab.tb.Helper()
	p := &Ping{node: n, cmd: n.Command("ping", append([]string{"-D", "-n"}, args...)...), done: make(chan struct{})}
	reader, writer, err := os.Pipe()
	if err != nil {
		n.lab.tb.Fatalf("node %s: ping: %v", n.Name, err)
	}
	p.cmd.Stdout, p.cmd.Stderr = writer, writer
	err = p.cmd.Start()
	_ = writer.Close()
	if err != nil {
		n.lab.tb.Fatalf("node %s: ping: %v", n.Name, err)
	}
	n.lab.tb.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done })
	go p.read(reader)
	return p
}

// read collects the output of ping; it ends when ping does.
func (p *Ping) read(output io.ReadCloser) {
	defer close(p.done)
	defer func() { _ = output.Close() }()
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		p.line(lines.Text())
	}
}

func (p *Ping) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := replyLine.FindStringSubmatch(text); m != nil {
		seconds, _ := strconv.ParseInt(m[1], 10, 64)
		micros, _ := strconv.ParseInt(m[2], 10, 64)
		seq, _ := strconv.Atoi(m[3])
		ms, _ := strconv.ParseFloat(m[4], 64)
		p.replies = append(p.replies, reply{
			seq:  seq,
			at:   time.Unix(seconds, micros*1000),
			took: time.Duration(ms * float64(time.Millisecond)),
		})
		return
	}
	if m := sentLine.FindStringSubmatch(text); m != nil {
		p.sent, _ = strconv.Atoi(m[1])
		return
	}
	if len(p.output) < 2000 {
		p.output += text + "\n"
	}
}

// Replies returns how many answers came so far.
func (p *Ping) Replies() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.replies)
}

// GapSince returns the longest time without an answer since some moment, the present one
// included.
func (p *Ping) GapSince(start time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest, last := time.Duration(0), start
	for _, reply := range p.replies {
		if reply.at.After(last) {
			longest = max(longest, reply.at.Sub(last))
			last = reply.at
		}
	}
	return max(longest, time.Since(last))
}

// Stop ends the ping and returns the result. Requests that were on their way at this
// moment do not count as lost: as many as were sent within the longest round trip.
func (p *Ping) Stop() PingResult {
	p.node.lab.tb.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.node.lab.tb.Fatalf("node %s: stop ping: %v", p.node.Name, err)
	}
	<-p.done
	_ = p.cmd.Wait() // the exit code says no more than the result
	return p.result(pingInterval)
}

// result counts; interval is not 0 for a ping that was interrupted.
func (p *Ping) result(interval time.Duration) PingResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := PingResult{Sent: p.sent, Notes: p.output}
	seen := map[int]bool{}
	last := 0
	for i, reply := range p.replies {
		if seen[reply.seq] {
			r.Duplicates++
			continue
		}
		seen[reply.seq] = true
		last = max(last, reply.seq)
		r.LongestTime = max(r.LongestTime, reply.took)
		if i > 0 {
			r.LongestGap = max(r.LongestGap, reply.at.Sub(p.replies[i-1].at))
		}
	}
	r.Received = len(seen)
	r.Missing = p.missing(seen)
	underway := 0
	if interval > 0 {
		underway = min(r.Sent-last, 1+int(r.LongestTime/interval))
	}
	r.Lost = r.Sent - underway - r.Received
	return r
}

// missing returns the stretches of requests that were not answered, but for the last.
func (p *Ping) missing(seen map[int]bool) (stretches []string) {
	next := 1 // what ping calls its first request
	for _, reply := range p.replies {
		first := next
		for next < reply.seq && !seen[next] {
			next++
		}
		if next > first {
			stretches = append(stretches, fmt.Sprintf("%d-%d before %s", first, next-1, reply.at.Format("15:04:05.000")))
		}
		next = max(next, reply.seq+1)
	}
	return stretches
}
