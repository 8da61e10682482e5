package load

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

// A Report is what became of a load. As JSON it has no tokens, passwords or start codes.
type Report struct {
	Name    string    `json:"name"`
	Seed    uint64    `json:"seed"`
	Began   time.Time `json:"began"`   // when the first booking was due
	Seconds float64   `json:"seconds"` // how long bookings were asked for
	Users   int       `json:"users"`
	Riders  int       `json:"raiders"`
	Rate    float64   `json:"rate"` // bookings a second, as asked for

	Dropped    int                  `json:"dropped"` // bookings that were due and not asked for, because too many were in flight
	Operations map[Op]Operation     `json:"operations"`
	Events     map[booking.Kind]int `json:"acknowledged"` // what people were told is done
	Watched    Watched              `json:"watched"`

	// Violations are answers that nobody should get: no success, no refusal that belongs to the game, and no word of when to come back.
	Violations     []Call `json:"violations"`
	MoreViolations int    `json:"more_violations"` // beyond those kept

	Ledger *Ledger `json:"ledger"` // nil: it was not checked

	Calls []Call `json:"calls,omitempty"` // every call, where Config.Record says so

	acknowledged []inspect.Acknowledged
}

// An Operation is what became of one thing that people do.
type Operation struct {
	Calls   int             `json:"calls"`
	Answers map[string]int  `json:"answers"` // calls by status and code
	Steps   map[Outcome]int `json:"steps"`   // what was wanted, by what it has come to after all tries
	Latency Latency         `json:"latency"` // of steps: from when it was due to its end, all waiting and all tries included
	Answer  Latency         `json:"answer"`  // of calls that were answered: from when it was sent to its answer
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

// A Ledger is what an inspection of the ledger says.
type Ledger struct {
	Events   map[booking.Kind]int  `json:"events"` // that are verified, of everybody
	Bookings map[booking.State]int `json:"bookings"`
	Refused  map[string]int        `json:"refused"` // messages that no reader acts on
	Checked  int                   `json:"checked"` // what was acknowledged, and looked for

	Findings []Finding `json:"findings"`
	More     int       `json:"more_findings"`
}

// A Finding is a [bus.Finding] as JSON.
type Finding struct {
	What    inspect.What    `json:"what"`
	Seq     uint64          `json:"seq"`
	Booking booking.ID      `json:"booking_id,omitempty"`
	Rider   booking.RiderID `json:"raider_id,omitempty"`
	Detail  string          `json:"detail"`
}

// Acknowledged returns what people were told is done, in the order in which they were told.
func (r *Report) Acknowledged() []inspect.Acknowledged { return r.acknowledged }

// Good reports whether nothing is wrong: no violation, no finding, and nothing that a watcher should have been told and was not. It does not say that the
// ledger was checked.
func (r *Report) Good() bool {
	return len(r.Violations) == 0 && r.Watched.Missing == 0 && (r.Ledger == nil || len(r.Ledger.Findings) == 0)
}

// Summarize writes the report for people.
func (r *Report) Summarize(w io.Writer) error {
	var b strings.Builder
	asked := r.Operations[Book].Latency.Count
	fmt.Fprintf(&b, "%d users asked for %d bookings in %.1f s (%.1f a second, wanted %g), %d raiders rode. Seed %d.\n",
		r.Users, asked, r.Seconds, float64(asked)/max(r.Seconds, 1e-9), r.Rate, r.Riders, r.Seed)
	if r.Dropped > 0 {
		fmt.Fprintf(&b, "%d more were due and could not be asked for, because too many were under way.\n", r.Dropped)
	}
	fmt.Fprintf(&b, "Acknowledged: %s.\n\n", counts(r.Events))
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "ms\tsteps\tp50\tp90\tp99\tp99.9\tmax\tlongest answer\t")
	for _, op := range slices.Sorted(maps.Keys(r.Operations)) {
		o := r.Operations[op]
		l := o.Latency
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", op, l.Count, l.P50, l.P90, l.P99, l.P999, l.Max, o.Answer.Max)
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
	r.wrong(&b)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// shown is how many lines people are shown of a sort; all are in the JSON.
const shown = 20

// wrong writes what is wrong.
func (r *Report) wrong(b *strings.Builder) {
	for i, v := range r.Violations {
		if i == shown {
			break
		}
		fmt.Fprintf(b, "VIOLATION %s by %s, booking %s, at %s: %s\n", v.Op, v.Actor, v.Booking, v.Start.Format(time.RFC3339Nano), v.Detail)
	}
	if n := len(r.Violations) + r.MoreViolations; n > 0 {
		fmt.Fprintf(b, "%d answers that nobody should get.\n", n)
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

// counts lists how many there are of each, the most first.
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
