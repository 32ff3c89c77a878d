package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// replyLine matches one answer in the output of "ping -D".
var replyLine = regexp.MustCompile(`^\[(\d+)\.(\d{6})\] \d+ bytes from .*icmp_seq=(\d+) .*time=([\d.]+) ms`)

// sentLine matches the summary of ping.
var sentLine = regexp.MustCompile(`^(\d+) packets transmitted`)

// reply is one answer: its request's number, when it came, how long it took.
type reply struct {
	seq  int
	at   time.Time
	took time.Duration
}

// PingResult says what became of a series of echo requests.
type PingResult struct {
	Sent, Received, Duplicates, Lost int

	// LongestGap is the longest time between two replies that followed each other, to be
	// shown.
	LongestGap time.Duration
	// Missing are the stretches of requests without an answer, with the time at which
	// each ended.
	Missing []string
	// Notes is what ping said besides: errors from the kernel or from hosts on the way.
	Notes string
}

// String returns the result in one line.
func (r PingResult) String() string {
	text := fmt.Sprintf("%d sent, %d lost, longest gap %v", r.Sent, r.Lost, r.LongestGap.Round(time.Millisecond))
	if len(r.Missing) > 0 {
		text += ", missing " + strings.Join(r.Missing, ", ")
	}
	return text
}

// Ping sends count requests, and then more until as many answers have come or some time is
// over, which extra arguments for ping(8) may change (-w). What it says is about the first
// ones: how late the last of their answers may be is no question of how fast the others came.
func (n *Node) Ping(address string, count int, args ...string) PingResult {
	n.lab.tb.Helper()
	s := n.ping(append([]string{"-i", "0.4", "-w", "60", "-c", strconv.Itoa(count), address}, args...)...)
	r := s.result(s.sent)
	r.Sent = min(r.Sent, count)
	r.Lost = r.Sent - s.answered(r.Sent)
	return r
}

// Answers reports whether one request is answered, soon.
func (n *Node) Answers(address string, args ...string) bool {
	n.lab.tb.Helper()
	return n.Ping(address, 1, append([]string{"-w", "2"}, args...)...).Received > 0
}

// ping runs ping(8) with these arguments to its end.
func (n *Node) ping(args ...string) *series {
	n.lab.tb.Helper()
	cmd := n.Command("ping", append([]string{"-D", "-n"}, args...)...)
	reader, writer, err := os.Pipe()
	if err != nil {
		n.lab.tb.Fatalf("node %s: ping: %v", n.Name, err)
	}
	defer func() { _ = reader.Close() }()
	cmd.Stdout, cmd.Stderr = writer, writer
	err = cmd.Start()
	_ = writer.Close()
	if err != nil {
		n.lab.tb.Fatalf("node %s: ping: %v", n.Name, err)
	}
	s := &series{}
	s.read(reader)
	_ = cmd.Wait() // the exit code says no more than the output
	return s
}

// series is what became of some echo requests so far.
type series struct {
	mu      sync.Mutex
	replies []reply
	sent    int
	output  string // of ping, what is neither reply nor summary: errors, for the report
}

// read collects the output of ping(8) to its end.
func (s *series) read(output io.Reader) {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		s.line(lines.Text())
	}
}

func (s *series) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := replyLine.FindStringSubmatch(text); m != nil {
		seconds, _ := strconv.ParseInt(m[1], 10, 64)
		micros, _ := strconv.ParseInt(m[2], 10, 64)
		seq, _ := strconv.Atoi(m[3])
		ms, _ := strconv.ParseFloat(m[4], 64)
		s.replies = append(s.replies, reply{
			seq:  seq,
			at:   time.Unix(seconds, micros*1000),
			took: time.Duration(ms * float64(time.Millisecond)),
		})
		return
	}
	if m := sentLine.FindStringSubmatch(text); m != nil {
		s.sent, _ = strconv.Atoi(m[1])
		return
	}
	s.note(text)
}

// note keeps what is said besides, but not all of much.
func (s *series) note(text string) {
	if len(s.output) < 2000 {
		s.output += text + "\n"
	}
}

// answered returns how many of the first count requests were answered.
func (s *series) answered(count int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[int]bool{}
	for _, reply := range s.replies {
		if reply.seq <= count {
			seen[reply.seq] = true
		}
	}
	return len(seen)
}

// result counts the first of the requests: so many.
func (s *series) result(sent int) PingResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := PingResult{Sent: sent, Notes: s.output}
	seen := map[int]bool{}
	for i, reply := range s.replies {
		switch {
		case reply.seq > sent:
			continue
		case seen[reply.seq]:
			r.Duplicates++
			continue
		}
		seen[reply.seq] = true
		if i > 0 {
			r.LongestGap = max(r.LongestGap, reply.at.Sub(s.replies[i-1].at))
		}
	}
	r.Received = len(seen)
	r.Missing = s.missing(seen)
	r.Lost = r.Sent - r.Received
	return r
}

// missing returns the stretches of requests that were not answered, but for the last.
func (s *series) missing(seen map[int]bool) (stretches []string) {
	next := 1 // what ping calls its first request
	for _, reply := range s.replies {
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
