package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// patience is how much longer than the stream iperf3 may take, with its greetings.
const patience = 8 * time.Second

// flow is what iperf3 says of its streams, all together, as the receivers saw them.
type flow struct {
	bytes, rate float64 // rate in bit/s
}

// iperfReport is the part of iperf3's JSON that is used.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		Received *iperfSum `json:"sum_received"`
		Reverse  iperfSum  `json:"sum_received_bidir_reverse"`
		Datagram struct {
			Seconds float64 `json:"seconds"`
			Packets float64 `json:"packets"`
			Lost    float64 `json:"lost_packets"`
		} `json:"sum"`
	} `json:"end"`
}

type iperfSum struct {
	Bytes float64 `json:"bytes"`
	Rate  float64 `json:"bits_per_second"`
}

// stream has TCP flow from alpha to beta, with further options for iperf3.
func (t *take) stream(congestion string, options ...string) (flow, error) {
	args := append([]string{"-t", strconv.Itoa(t.seconds), "-C", congestion}, options...)
	r, err := t.iperf(time.Duration(t.seconds)*time.Second, args...)
	if err != nil {
		return flow{}, err
	}
	return r.flow()
}

// flow adds up both directions. That nothing arrived is a result too.
func (r iperfReport) flow() (flow, error) {
	if r.End.Received == nil {
		return flow{}, errors.New("iperf3: no streams counted")
	}
	received, reverse := *r.End.Received, r.End.Reverse
	return flow{bytes: received.Bytes + reverse.Bytes, rate: received.Rate + reverse.Rate}, nil
}

// datagrams offers UDP from alpha to beta for a second, rate of them; 0 is all it can.
func (t *take) datagrams(size int, rate float64) (trial, error) {
	bits := strconv.FormatFloat(rate*float64(size)*8, 'f', 0, 64)
	// iperf3 knows whole seconds only.
	r, err := t.iperf(time.Second, "-u", "-l", strconv.Itoa(size), "-t", "1", "-b", bits)
	if err != nil {
		return trial{}, err
	}
	return r.trial()
}

func (r iperfReport) trial() (trial, error) {
	d := r.End.Datagram
	if d.Seconds <= 0 || d.Packets <= 0 {
		return trial{}, errors.New("iperf3: no datagrams counted")
	}
	return trial{sent: d.Packets / d.Seconds, received: (d.Packets - d.Lost) / d.Seconds, lost: d.Lost / d.Packets}, nil
}

// errBusy is of an iperf3 that still waits for the end of the test before: the last word of that
// may be under way for long where packets are lost.
var errBusy = errors.New("iperf3 is busy")

// iperf runs iperf3 on alpha against the one on beta. When it fails, that one is started
// anew, as it may still wait for the end of what failed. Where it only had to wait for what came
// before, this is done again.
func (t *take) iperf(length time.Duration, args ...string) (iperfReport, error) {
	r, err := t.iperfOnce(length, args...)
	if errors.Is(err, errBusy) {
		return t.iperfOnce(length, args...)
	}
	return r, err
}

func (t *take) iperfOnce(length time.Duration, args ...string) (iperfReport, error) {
	ctx, cancel := context.WithTimeout(t.stage.ctx, length+patience)
	defer cancel()
	all := append([]string{
		"netns", "exec", t.pair.Alpha.Namespace,
		"iperf3", "-J", "-c", t.system.address(t.bed), "-p", strconv.Itoa(serverPort), "--connect-timeout", "3000",
	}, args...)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "ip", all...)
	cmd.Stdout, cmd.Stderr = &out, &out
	failure := cmd.Run()
	r, err := parseIperf(out.Bytes())
	if ctx.Err() != nil {
		err = fmt.Errorf("iperf3 %s: not within %v", strings.Join(args, " "), length+patience)
	} else if err != nil {
		err = fmt.Errorf("iperf3 %s: %w", strings.Join(args, " "), errors.Join(failure, err))
	}
	if err != nil {
		return r, errors.Join(err, t.serve())
	}
	return r, nil
}

// parseIperf reads a report; one that tells an error is one.
func parseIperf(text []byte) (iperfReport, error) {
	var r iperfReport
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%w: %s", err, firstLine(string(text)))
	}
	switch {
	case strings.Contains(r.Error, "server is busy"):
		return r, fmt.Errorf("%w: %s", errBusy, r.Error)
	case r.Error != "":
		return r, errors.New(r.Error)
	}
	return r, nil
}
