package main

import (
	"math"
	"testing"
)

func TestPercentHasAtMostThreeDigits(t *testing.T) {
	tests := map[float64]string{
		0: "0 %", 1e-9: "<0.01 %", 0.0000999: "<0.01 %", 0.0001: "0.01 %", 0.0025: "0.25 %", 0.01: "1 %",
		0.012345: "1.23 %", 0.0999: "9.99 %", 0.09999: "10 %", 0.1: "10 %", 0.12345: "12.3 %", 0.9994: "99.9 %",
		0.9999: "100 %", 1: "100 %", 4.31e13: "100 %", -1: "0 %", math.Inf(1): "100 %", 5e-324: "<0.01 %",
	}
	for fraction, want := range tests {
		if got := percent(fraction); got != want {
			t.Errorf("%v: %s, want %s", fraction, got, want)
		}
	}
}
