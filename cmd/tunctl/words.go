package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// unit is one step of a scale, and the words for it.
type unit struct {
	size        time.Duration
	word, short string
}

func units() []unit {
	return []unit{
		{24 * time.Hour, "day", "d"},
		{time.Hour, "hour", "h"},
		{time.Minute, "minute", "m"},
		{time.Second, "second", "s"},
	}
}

// words says a duration with its two largest units: "3 minutes, 12 seconds".
func words(d time.Duration) string {
	return spell(d, ", ", func(n int64, u unit) string { return plural(uint64(n), u.word) })
}

// short is words for a column: "3m12s".
func short(d time.Duration) string {
	return spell(d, "", func(n int64, u unit) string { return fmt.Sprint(n, u.short) })
}

// spell joins the largest unit that is not 0 and the one below it.
func spell(d time.Duration, between string, say func(int64, unit) string) string {
	all := units()
	for i, u := range all {
		if d < u.size {
			continue
		}
		parts := []string{say(int64(d/u.size), u)}
		if i+1 < len(all) {
			if n := d % u.size / all[i+1].size; n > 0 {
				parts = append(parts, say(int64(n), all[i+1]))
			}
		}
		return strings.Join(parts, between)
	}
	return say(0, all[len(all)-1])
}

// plural counts things: "1 packet", "2 packets".
func plural(n uint64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// size says a number of bytes: "1.2 GiB".
func size(n uint64) string {
	const step = 1024
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/step, 0
	for value >= step && prefix < len("KMGTPE")-1 {
		value /= step
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[prefix])
}

// percent says a fraction in at most three digits: "0.25 %". What is outside 0 to 1 no
// fraction can be, and is cut.
func percent(fraction float64) string {
	p := max(0, min(fraction, 1)) * 100
	if p > 0 && p < 0.01 {
		return "<0.01 %"
	}
	digits := 2
	if p >= 9.995 {
		digits = 1
	}
	text := strconv.FormatFloat(p, 'f', digits, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + " %"
}

// milliseconds says a time: "1.5 ms".
func milliseconds(ms float64) string {
	if ms >= 100 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.3g ms", ms)
}

// or returns text, or what stands for none.
func or(text, none string) string {
	if text == "" {
		return none
	}
	return text
}
