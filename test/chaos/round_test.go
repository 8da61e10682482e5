//go:build linux

package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// whole is the maximum time until the cluster is whole again after a fault is mended.
const whole = 2 * time.Minute

// A round is one fault, from its beginning until the cluster is whole again.
type round struct {
	fault   string
	took    time.Duration
	written time.Duration // from the fault until a later booking is acknowledged
	longest time.Duration // for an answer
	fates   map[fate]int
	wrong   []exchange // an answer that Pillion must never give
}

// strike causes a fault, lets it last, mends it, and waits until the cluster is whole again.
func (c *cluster) strike(f fault, w *witness, chance *rand.Rand) round {
	c.t.Helper()
	begin := w.now()
	down := map[string]bool{}
	mend, err := f.strike(c, chance, func(p *process) { down[p.front] = true })
	c.must(err)
	struck := w.now()
	var lasting <-chan time.Time
	if f.lasts != nil {
		lasting = time.After(f.lasts(chance))
	}
	r := round{fault: f.name, fates: map[fate]int{}}
	for over := time.Now().Add(time.Minute); ; await(10 * time.Millisecond) {
		at, ok := w.written(struck)
		if ok {
			r.written = at - struck
			break
		}
		if time.Now().After(over) {
			c.tell(mend())
			c.t.Fatalf("%s: no booking is acknowledged a minute later", f.name)
		}
	}
	if lasting != nil {
		<-lasting
	}
	c.must(mend())
	c.awaitWhole(whole)
	r.took = w.now() - begin
	for _, x := range w.since(begin) {
		r.fates[x.fate]++
		if x.fate != nobody {
			r.longest = max(r.longest, x.end-x.begin)
		}
		switch {
		case x.end-x.begin > patience, x.fate == wrong, (x.fate == broken || x.fate == nobody) && !down[x.host]:
			r.wrong = append(r.wrong, x)
		}
	}
	if f.writes > 0 && r.written > f.writes {
		c.t.Errorf("%s: bookings go on after %v, and %v is promised", f.name, r.written.Round(time.Millisecond),
			f.writes)
	}
	for _, x := range r.wrong[:min(len(r.wrong), 5)] {
		c.t.Errorf("%s: %s at %s begun %v after: %s %d %s after %v", f.name, x.op, x.host,
			(x.begin - begin).Round(time.Millisecond), x.fate, x.status, x.code,
			(x.end - x.begin).Round(time.Millisecond))
	}
	if more := len(r.wrong) - 5; more > 0 {
		c.t.Errorf("%s: and %d more", f.name, more)
	}
	return r
}

func (r round) String() string {
	var fates []string
	for _, f := range slices.Sorted(maps.Keys(r.fates)) {
		fates = append(fates, fmt.Sprintf("%d %s", r.fates[f], f))
	}
	return fmt.Sprintf("%-20s %6.1f s, writes after %6.3f s, longest answer %6.3f s: %s", r.fault, r.took.Seconds(),
		r.written.Seconds(), r.longest.Seconds(),
		strings.Join(fates, ", "))
}
