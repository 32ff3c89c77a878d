package datapath

import (
	"fmt"
	"os"
)

// StopPipe is a [Stop] for real descriptors: a pipe whose end is what poll sees.
type StopPipe struct {
	r, w *os.File
	fd   int
}

// NewStop returns a Stop that real devices and sockets can wait for.
func NewStop() (*StopPipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open stop pipe: %w", err)
	}
	return &StopPipe{r: r, w: w, fd: int(r.Fd())}, nil
}

// FD returns the end to wait for. It stays open until the StopPipe is collected: a
// number that is given to poll must not become another descriptor's.
func (s *StopPipe) FD() int { return s.fd }

// Close hangs up the pipe.
func (s *StopPipe) Close() error { return s.w.Close() }
