package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/example/pillion/sim"
)

// A progress prints the progress of a run: on a terminal in one line that it overwrites, and
// otherwise as a line every lineEvery.
type progress struct {
	out      io.Writer
	terminal bool
	shown    time.Time
}

// lineEvery is the interval of lines if the output is no terminal.
const lineEvery = 10 * time.Second

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{out: w, terminal: ok && term.IsTerminal(int(f.Fd())), shown: time.Now()}
}

func (p *progress) show(s sim.Snapshot) {
	if !p.terminal && time.Since(p.shown) < lineEvery {
		return
	}
	p.shown = time.Now()
	line := fmt.Sprintf("%s %s: ", s.Phase, s.Elapsed.Round(time.Second))
	if s.Phase == sim.Registering {
		line += fmt.Sprintf("%d of %d", s.Accounts, s.People)
	} else {
		line += fmt.Sprintf("booked %d, accepted %d, completed %d, cancelled %d; p99 %s; ",
			s.Booked, s.Accepted, s.Completed, s.Cancelled, s.P99.Round(100*time.Microsecond))
		line += fmt.Sprintf("in flight %d, dropped %d, retry later %d, no answer %d, violations %d",
			s.InFlight, s.Dropped, s.Away, s.Unknown, s.Violations)
	}
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K"+line)
		return
	}
	fmt.Fprintln(p.out, line)
}

// end finishes the line on a terminal.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprintln(p.out)
	}
}
