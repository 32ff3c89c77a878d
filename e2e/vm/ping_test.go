package vm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// pings is what runs through the tunnel all the while, ten a second in each direction.
type pings struct {
	g *guest
}

// startPings begins them.
func (g *guest) startPings() pings {
	g.Helper()
	for from, to := range map[*node]*node{g.alpha: g.beta, g.beta: g.alpha} {
		g.run(fmt.Sprintf("%sping -n -i 0.1 %s >/run/ping-%[2]s 2>&1 & echo $! >/run/ping-%[2]s.pid", from.namespace, to.inner))
	}
	return pings{g}
}

var (
	answered    = regexp.MustCompile(`icmp_seq=(\d+) .*time=`)
	transmitted = regexp.MustCompile(`(\d+) packets transmitted`)
)

// wantNoLoss ends the pings, of which every one must have been answered exactly once, but for
// one that may be on its way just then.
func (p pings) wantNoLoss() {
	p.g.Helper()
	for _, to := range []*node{p.g.alpha, p.g.beta} {
		output := p.g.run(fmt.Sprintf("kill -INT $(cat /run/ping-%[1]s.pid); wait $(cat /run/ping-%[1]s.pid); cat /run/ping-%[1]s", to.inner))
		sent := transmitted.FindStringSubmatch(output)
		if sent == nil {
			p.g.Fatalf("pings to %s: %s", to.inner, output)
		}
		n, _ := strconv.Atoi(sent[1]) // it is digits
		answers := map[string]int{}
		for _, m := range answered.FindAllStringSubmatch(output, -1) {
			answers[m[1]]++
		}
		var lost, doubled []string
		for seq := 1; seq < n; seq++ {
			switch name := strconv.Itoa(seq); answers[name] {
			case 0:
				lost = append(lost, name)
			case 1:
			default:
				doubled = append(doubled, name)
			}
		}
		p.g.Logf("pings to %s: %d sent, %d lost", to.inner, n, len(lost))
		if len(lost)+len(doubled) > 0 || n < 2 {
			p.g.Errorf("pings to %s: of %d, lost: %s, answered more than once: %s", to.inner, n, strings.Join(lost, " "), strings.Join(doubled, " "))
		}
	}
}
