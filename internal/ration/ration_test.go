package ration_test

import (
	"testing"
	"time"

	"github.com/example/pillion/internal/ration"
)

func TestLines(t *testing.T) {
	var l ration.Lines
	start := time.Unix(1_700_000_000, 0)
	for _, step := range []struct {
		at     time.Duration
		missed int
		ok     bool
	}{
		{0, 0, true}, {0, 0, false}, {999 * time.Millisecond, 0, false}, {time.Second, 2, true}, {3 * time.Second, 0, true},
		{3 * time.Second, 0, false}, {-time.Hour, 1, true}, {-time.Hour, 0, false}, {-time.Hour + time.Second, 1, true},
	} {
		if missed, ok := l.Next(start.Add(step.at)); missed != step.missed || ok != step.ok {
			t.Errorf("at %v: %d lines missed, %v; want %d, %v", step.at, missed, ok, step.missed, step.ok)
		}
	}
}
