package main

import (
	"slices"
	"time"
)

// percentile returns the smallest value that p per cent of the values do not exceed.
func percentile(values []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// median returns the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// series holds the values of one metric of one system, by round.
type series map[int]float64

func (s series) values() []float64 {
	var values []float64
	for _, v := range s {
		values = append(values, v)
	}
	return values
}

// ratios returns the values divided by those that another system had in the same round:
// what the machine did meanwhile fell on both.
func (s series) ratios(other series) []float64 {
	var ratios []float64
	for round, value := range s {
		if against, ok := other[round]; ok && against != 0 {
			ratios = append(ratios, value/against)
		}
	}
	return ratios
}
