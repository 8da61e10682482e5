package sim

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus/inspect"
)

// A Report is the result of a run. It contains no tokens, passwords or start codes.
type Report struct {
	Name    string    `json:"name"`
	Seed    uint64    `json:"seed"`
	Began   time.Time `json:"began"`   // when the first booking was due
	Seconds float64   `json:"seconds"` // how long users booked
	Users   int       `json:"users"`
	Riders  int       `json:"raiders"`
	Speed   float64   `json:"speed"` // of the scene's clock

	Figures *Figures `json:"figures"` // what people have got; nil if Config.Forget is set

	Dropped    int                  `json:"dropped"` // due bookings that Config.InFlight prevented
	Operations map[Op]Operation     `json:"operations"`
	Events     map[booking.Kind]int `json:"acknowledged"` // events of successful answers
	Watched    Watched              `json:"watched"`

	// Violations are answers that Pillion must never give: no success, no expected refusal, and no
	// Retry-After.
	Violations     []Call `json:"violations"`
	MoreViolations int    `json:"more_violations"` // beyond those in Violations

	Ledger *Ledger `json:"ledger"` // nil if it was not checked

	Calls []Call `json:"calls,omitempty"` // all calls, if Config.Record is set

	acknowledged []inspect.Acknowledged
}

// An Operation has the results of one kind of operation.
type Operation struct {
	Calls   int             `json:"calls"`
	Answers map[string]int  `json:"answers"` // calls by status and code
	Steps   map[Outcome]int `json:"steps"`   // steps by their final outcome
	// of steps, from the due time to the end of the last attempt
	Latency Latency `json:"latency"`
	// of calls that were answered: from when it was sent to its answer
	Answer Latency `json:"answer"`
}

// A Latency is how long something took, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / float64(time.Millisecond) }
	return Latency{h.TotalCount(), at(50), at(90), at(99), at(99.9), float64(h.Max()) / float64(time.Millisecond)}
}

// A Ledger is the result of an inspection of the ledger.
type Ledger struct {
	// all verified events, not only those of the run
	Events   map[booking.Kind]int  `json:"events"`
	Bookings map[booking.State]int `json:"bookings"`
	Refused  map[string]int        `json:"refused"` // messages that failed verification
	Checked  int                   `json:"checked"` // acknowledged events that were looked up

	Findings []Finding `json:"findings"`
	More     int       `json:"more_findings"`
}

// A Finding is a [inspect.Finding] as JSON.
type Finding struct {
	What    inspect.What    `json:"what"`
	Seq     uint64          `json:"seq"`
	Booking booking.ID      `json:"booking_id,omitempty"`
	Rider   booking.RiderID `json:"raider_id,omitempty"`
	Detail  string          `json:"detail"`
}

// Acknowledged returns the events of successful answers, in the order of the answers.
func (r *Report) Acknowledged() []inspect.Acknowledged { return r.acknowledged }

// Good reports whether the run found no faults: no violation, no finding in the ledger, and no
// event that a watcher missed. It is true as well if the ledger was not checked.
func (r *Report) Good() bool {
	return len(r.Violations) == 0 && r.Watched.Missing == 0 && (r.Ledger == nil || len(r.Ledger.Findings) == 0)
}

// Summarize writes the report as text.
func (r *Report) Summarize(w io.Writer) error {
	var b strings.Builder
	requested := r.Operations[Book].Latency.Count
	fmt.Fprintf(&b,
		"%d users requested %d bookings in %.1f s (%.1f per second), with %d raiders. Seed %d.\n",
		r.Users, requested, r.Seconds, float64(requested)/max(r.Seconds, 1e-9), r.Riders, r.Seed)
	if r.Dropped > 0 {
		fmt.Fprintf(&b, "%d more were due and were dropped, because too many requests were in flight.\n", r.Dropped)
	}
	fmt.Fprintf(&b, "Acknowledged: %s.\n", counts(r.Events))
	r.Figures.summarize(&b)
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "ms\tsteps\tp50\tp90\tp99\tp99.9\tmax\tlongest answer\t")
	for _, op := range slices.Sorted(maps.Keys(r.Operations)) {
		o := r.Operations[op]
		l := o.Latency
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", op, l.Count, l.P50, l.P90, l.P99, l.P999,
			l.Max, o.Answer.Max)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	b.WriteString("\n")
	for _, op := range slices.Sorted(maps.Keys(r.Operations)) {
		if o := r.Operations[op]; o.Steps[Done] < o.Calls {
			fmt.Fprintf(&b, "%s: %s.\n", op, counts(o.Answers))
		}
	}
	r.Watched.summarize(&b)
	r.faults(&b)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// shown is the maximum number of violations, and of findings, in the text. The JSON has all of
// them.
const shown = 20

// faults writes the violations and the findings.
func (r *Report) faults(b *strings.Builder) {
	for i, v := range r.Violations {
		if i == shown {
			break
		}
		fmt.Fprintf(b, "VIOLATION %s by %s, booking %s, at %s: %s\n",
			v.Op, v.Actor, v.Booking, v.Start.Format(time.RFC3339Nano), v.Detail)
	}
	if n := len(r.Violations) + r.MoreViolations; n > 0 {
		fmt.Fprintf(b, "%d answers were violations.\n", n)
	}
	if r.Ledger == nil {
		b.WriteString("The ledger was not checked.\n")
		return
	}
	for i, f := range r.Ledger.Findings {
		if i == shown {
			break
		}
		fmt.Fprintf(b, "FOUND %s\n", inspect.Finding(f))
	}
	fmt.Fprintf(b, "The ledger was checked for %d acknowledged events: %d findings. It has %s; bookings: %s.\n",
		r.Ledger.Checked, len(r.Ledger.Findings)+r.Ledger.More, counts(r.Ledger.Events), counts(r.Ledger.Bookings))
}

// counts returns the counts of m, the largest first.
func counts[K ~string](m map[K]int) string {
	if len(m) == 0 {
		return "nothing"
	}
	keys := slices.SortedFunc(maps.Keys(m), func(a, b K) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(string(a), string(b))
	})
	words := make([]string, 0, len(keys))
	for _, k := range keys {
		words = append(words, fmt.Sprintf("%d %s", m[k], string(k)))
	}
	return strings.Join(words, ", ")
}
