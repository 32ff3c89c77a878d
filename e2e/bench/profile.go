package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tund/e2e/lab"
)

// shares are where the time of all processors goes, and the symbols by which that is
// told, asked in this order. Symbols of the kernel have a name that begins with [k].
var shares = []struct {
	key, head string
	symbol    *regexp.Regexp
}{
	{"share-cipher", "cipher", regexp.MustCompile(`(?i)^\[\.\].*(aes|gcm|ghash|gmult|gctr|chacha|poly1305|_enc_256_|_dec_256_)`)},
	{"share-copy", "copies to and from the kernel", regexp.MustCompile(`^\[k\] (_?_?copy_(from|to)_(iter|user)|rep_movs|copy_user|csum_and_copy|memcpy|__check_object_size|__virt_addr_valid)`)},
	{"share-switch", "waking and switching", regexp.MustCompile(`^\[k\] (finish_task_switch|_?_?schedule|try_to_wake_up|ttwu|_raw_spin_unlock_irqrestore|pick_|select_|update_(curr|load|cfs)|enqueue_|dequeue_|place_entity|set_next|put_prev|do_(sys_)?poll|do_select|.*_poll|futex|__rseq|switch_|__switch|sched_|wake_|__wake|native_send_call|x2apic|sysvec_resch)`)},
	{"share-program", "the program's own code", regexp.MustCompile(`^\[\.\]`)},
	{"share-kernel", "network stacks, memory, system calls", regexp.MustCompile(`^\[k\]`)},
}

// The shares that are told by the thread alone.
const (
	shareLoad  = "share-load"
	shareIdle  = "share-idle"
	shareOther = "share-other"
)

// profile samples all processors while one stream flows.
func profile(t *take) error {
	var text string
	var failed error
	_, err := t.beside(t.seconds+1, loadLead, func() { text, failed = t.sample() })
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	threads, err := t.tunnelThreads()
	if err != nil {
		return err
	}
	found, err := parseProfile(text, threads)
	if err != nil {
		return err
	}
	for key, share := range found {
		t.found(key, share)
	}
	return nil
}

// tunnelThreads returns the threads of the tunnel on both nodes: what perf calls a pid in
// its report is one of a thread.
func (t *take) tunnelThreads() ([]int, error) {
	var all []int
	for _, n := range []*lab.Node{t.pair.Alpha, t.pair.Beta} {
		for _, pid := range t.tunnelProcesses(n) {
			tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			if err != nil {
				return nil, err
			}
			for _, task := range tasks {
				tid, err := strconv.Atoi(task.Name())
				if err != nil {
					return nil, err
				}
				all = append(all, tid)
			}
		}
	}
	return all, nil
}

// sample returns perf's list of threads and symbols.
func (t *take) sample() (string, error) {
	file := filepath.Join(t.pair.Alpha.Dir, "perf.data")
	defer func() { _ = os.Remove(file) }() // the lab removes the directory
	record := exec.CommandContext(t.stage.ctx, "perf", "record", "-q", "-a", "-F", "999", "-e", "cpu-clock", "-o", file,
		"--", "sleep", strconv.Itoa(t.seconds))
	if out, err := record.CombinedOutput(); err != nil {
		return "", fmt.Errorf("perf record: %w: %s", err, firstLine(string(out)))
	}
	out, err := exec.CommandContext(t.stage.ctx, "perf", "report", "-i", file, "--stdio", "--no-children",
		"-g", "none", "-F", "sample,pid,sym", "-t", ";").Output()
	if err != nil {
		return "", fmt.Errorf("perf report: %w", err)
	}
	return string(out), nil
}

// parseProfile adds up the samples of each share, in per cent of all. A line is:
//
//	123;   4567:tund: beta   ;[k] _copy_from_iter   -      -
func parseProfile(text string, threads []int) (map[string]float64, error) {
	counts, all := map[string]float64{shareLoad: 0, shareIdle: 0, shareOther: 0}, 0.0
	for _, s := range shares {
		counts[s.key] = 0
	}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ";")
		if strings.HasPrefix(line, "#") || len(fields) != 3 {
			continue
		}
		samples, err := strconv.ParseFloat(strings.TrimSpace(fields[0]), 64)
		if err != nil {
			return nil, fmt.Errorf("perf report: %q", strings.TrimSpace(line))
		}
		all += samples
		counts[shareOf(fields[1], fields[2], threads)] += samples
	}
	if all == 0 {
		return nil, errors.New("perf report: no samples")
	}
	for key := range counts {
		counts[key] *= 100 / all
	}
	return counts, nil
}

// shareOf returns the share that a sample belongs to.
func shareOf(thread, symbol string, threads []int) string {
	id, name, _ := strings.Cut(strings.TrimSpace(thread), ":")
	tid, err := strconv.Atoi(id)
	switch {
	case err == nil && tid == 0:
		return shareIdle
	case strings.HasPrefix(name, "iperf3"):
		return shareLoad
	case err != nil || !slices.Contains(threads, tid):
		return shareOther
	}
	for _, s := range shares {
		if s.symbol.MatchString(symbol) {
			return s.key
		}
	}
	return shareOther
}

// profileTable shows the shares of all systems.
func (r *results) profileTable(text *strings.Builder) {
	keys, heads := []string{}, []string{"system"}
	for _, s := range shares {
		keys, heads = append(keys, s.key), append(heads, s.head)
	}
	keys = append(keys, shareLoad, shareIdle, shareOther)
	heads = append(heads, "iperf3, both ends", "idle", "other programs")
	if !slices.ContainsFunc(r.plan.systems, func(s system) bool { return len(r.values[s.name][shareIdle]) > 0 }) {
		return
	}
	text.WriteString("\n## Where the time goes\n\nOf all processors under one TCP stream, per cent; medians.\n\n")
	table(text, heads)
	for _, s := range r.plan.systems {
		cells := []string{s.name}
		for _, key := range keys {
			cell := "–"
			if values := r.values[s.name][key].values(); len(values) > 0 {
				cell = number(median(values), 1)
			}
			cells = append(cells, cell)
		}
		row(text, cells...)
	}
	text.WriteString(bounds)
}

// switches returns how often any processor went from one thread to another since the
// machine was started.
func switches() (uint64, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if count, ok := strings.CutPrefix(line, "ctxt "); ok {
			return strconv.ParseUint(strings.TrimSpace(count), 10, 64)
		}
	}
	return 0, errors.New("/proc/stat: no ctxt")
}
