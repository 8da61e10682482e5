package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Values of --sync: the disk is written to before each acknowledgement, or every two minutes.
const (
	always = "always"
	lazily = "2m"
)

const mib = 1 << 20

// A side is a system with what it does.
type side struct {
	system *system
	task   task
}

// A line is the result of two sides that took turns, or of one alone.
type line struct {
	task    task   // of the first side
	than    string // what the second side did: "" is none
	when    string // it syncs to disk
	clients int
	turns   [2][]turn // of each side
}

// compare has two sides take turns. Each begins as often as the other one. A second side without a
// system is none.
func compare(b *testing.B, when string, clients int, first, second side) line {
	b.Helper()
	l := line{task: first.task, when: when, clients: clients}
	sides := []side{first, second}
	if second.system == nil {
		sides = sides[:1]
	} else {
		l.than = second.task.name + " of " + second.system.name
	}
	for round := range *pairs {
		for i := range sides {
			n := (i + round) % len(sides)
			l.turns[n] = append(l.turns[n], sides[n].system.take(b, pace{clients: clients, length: *turnTime},
				sides[n].task))
		}
	}
	return l
}

// String returns the line as a row of the table.
func (l line) String() string {
	sum, latency := l.sum(0)
	each := func(v float64) float64 { return v / float64(max(sum.done, 1)) }
	row := []string{l.task.name, l.when, strconv.Itoa(l.clients), number(median(l.rates(0)))}
	if l.than == "" {
		row = append(row, "", "", "")
	} else {
		ratios := l.ratios()
		row = append(row, number(median(l.rates(1)))+" "+l.than, fmt.Sprintf("**%.2f**", median(ratios)),
			fmt.Sprintf("%.2f to %.2f", slices.Min(ratios), slices.Max(ratios)))
	}
	row = append(row, fmt.Sprintf("%.1f", quantile(latency, 50)), fmt.Sprintf("%.1f", quantile(latency, 99)))
	if l.than == "" {
		row = append(row, "")
	} else {
		_, than := l.sum(1)
		row = append(row, fmt.Sprintf("%.1f", quantile(than, 99)))
	}
	row = append(row, fmt.Sprintf("%.0f", each(float64(sum.used.cpu.Microseconds()))),
		fmt.Sprintf("%.0f", each(sum.used.mallocs)), fmt.Sprintf("%.1f", each(sum.used.bytes)/1000),
		fmt.Sprintf("%.2f", l.behind().Seconds()))
	return "| " + strings.Join(row, " | ") + " |"
}

const header = "| what | sync | at once | a second | beside | ratio | spread | p50 ms | p99 ms | p99 beside | " +
	"CPU µs | allocations | kB | behind s |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"

// sum returns what one side did in all its turns.
func (l line) sum(side int) (turn, *hdrhistogram.Histogram) {
	all := turn{latency: newHistogram()}
	for _, t := range l.turns[side] {
		all.done, all.took, all.load = all.done+t.done, all.took+t.took, all.load+t.load
		all.used = all.used.plus(t.used)
		all.latency.Merge(t.latency)
	}
	return all, all.latency
}

// rates returns the rate of each turn of a side.
func (l line) rates(side int) (all []float64) {
	for _, t := range l.turns[side] {
		all = append(all, t.rate())
	}
	return all
}

// ratios returns the ratio of the rates of each pair of turns.
func (l line) ratios() (all []float64) {
	first, second := l.rates(0), l.rates(1)
	for i := range first {
		all = append(all, first[i]/second[i])
	}
	return all
}

// behind returns the longest time after the end of a turn until everything was done.
func (l line) behind() (longest time.Duration) {
	for _, t := range l.turns[0] {
		longest = max(longest, t.behind)
	}
	return longest
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// number returns a number of three digits or so.
func number(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// say prints a line at once: a benchmark's own output comes at its end, and is cut.
func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// machine says where and when the figures were taken.
func machine() string {
	model := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name"); ok {
			model, _, _ = strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
		}
	}
	commit, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	return fmt.Sprintf("%s, %d × %s, %s, commit %s; %d turns of %s for each side.", time.Now().UTC().Format("2 January 2006"),
		runtime.NumCPU(), model, runtime.Version(), strings.TrimSpace(string(commit)), *pairs, *turnTime)
}
