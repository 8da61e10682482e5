package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/example/pillion/booking"
)

// Figures are what the people of a scene have got. All times are in seconds, by the scene's clock.
type Figures struct {
	Cell             // of all rides
	Hours   []Cell   `json:"hours"`   // by the hour of the day, those without rides omitted
	Zones   []Cell   `json:"zones"`   // likewise by the zone of the pickup
	Cells   []Cell   `json:"cells"`   // by both
	Working Activity `json:"raiders"` // how riders have spent their shifts
	Earned  Earnings `json:"earnings"`
}

// A Cell has the figures of the rides that were requested in one hour or zone.
type Cell struct {
	Hour *int `json:"hour,omitempty"` // of the day, 0 to 23
	Zone *int `json:"zone,omitempty"`

	Requested int     `json:"requested"`
	Matched   int     `json:"matched"` // accepted by a rider at least once
	MatchRate float64 `json:"match_rate"`
	Completed int     `json:"completed"`
	Expired   int     `json:"expired"`            // as far as a user has noticed
	ByUsers   int     `json:"cancelled_by_users"` // rides that users have cancelled
	ByRiders  int     `json:"released_by_raiders"`

	Accept Spread `json:"accept_s"` // from the request to the last acceptance
	Wait   Spread `json:"wait_s"`   // from the request to the beginning of the ride
	Pickup Spread `json:"pickup_m"` // as the crow flies, at the acceptance, in metres
}

// A Spread is the distribution of a figure.
type Spread struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
}

// Activity is how riders have spent their time on shift, in shares that add up to 1.
type Activity struct {
	Hours     float64 `json:"hours"` // of all riders together
	Idle      float64 `json:"idle"`
	OnTheWay  float64 `json:"on_the_way"`
	Passenger float64 `json:"with_passenger"`
}

// Earnings are what the riders who were on shift have earned, in minor units of the currency.
type Earnings struct {
	Total int64   `json:"total"`
	Mean  float64 `json:"mean"`
	// Gini is the Gini coefficient: 0 if all have earned the same, near 1 if one has earned all.
	Gini float64 `json:"gini"`
}

// figures returns the figures of a run that is over, or nil if it has kept none.
func (r *run) figures() *Figures {
	if r.Forget {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	type key struct{ hour, zone int } // -1: any
	by := make(map[key]*tally)
	for _, x := range r.rides {
		hour := int((r.Scene.Begin + x.trip.At) / time.Hour % 24)
		for _, k := range []key{{-1, -1}, {hour, -1}, {-1, x.trip.Zone}, {hour, x.trip.Zone}} {
			if by[k] == nil {
				by[k] = new(tally)
			}
			by[k].add(r, x)
		}
	}
	f := &Figures{Hours: []Cell{}, Zones: []Cell{}, Cells: []Cell{}, Working: r.working(), Earned: r.earnings()}
	cell := func(k key) []Cell {
		t, ok := by[k]
		if !ok {
			return nil
		}
		c := t.cell()
		if k.hour >= 0 {
			c.Hour = &k.hour
		}
		if k.zone >= 0 {
			c.Zone = &k.zone
		}
		return []Cell{c}
	}
	for _, c := range cell(key{-1, -1}) {
		f.Cell = c
	}
	for hour := range 24 {
		f.Hours = append(f.Hours, cell(key{hour, -1})...)
		for zone := range Zones {
			f.Cells = append(f.Cells, cell(key{hour, zone})...)
		}
	}
	for zone := range Zones {
		f.Zones = append(f.Zones, cell(key{-1, zone})...)
	}
	return f
}

// A tally adds up the rides of one cell.
type tally struct {
	Cell
	accept, wait, pickup []float64
}

func (t *tally) add(r *run, x *ride) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.requested.IsZero() {
		return
	}
	theirs := func(d time.Duration) float64 { return r.theirs(d).Seconds() }
	t.Requested++
	t.ByRiders += x.released
	if !x.accepted.IsZero() {
		t.Matched++
		t.accept = append(t.accept, theirs(x.accepted.Sub(x.requested)))
		t.pickup = append(t.pickup, x.metres)
	}
	if !x.started.IsZero() {
		t.wait = append(t.wait, theirs(x.started.Sub(x.requested)))
	}
	switch x.state {
	case booking.StateCompleted:
		t.Completed++
	case booking.StateCancelled:
		t.ByUsers++
	case booking.StateExpired:
		t.Expired++
	}
}

func (t *tally) cell() Cell {
	c := t.Cell
	if c.Requested > 0 {
		c.MatchRate = float64(c.Matched) / float64(c.Requested)
	}
	c.Accept, c.Wait, c.Pickup = spread(t.accept), spread(t.wait), spread(t.pickup)
	return c
}

func spread(of []float64) Spread {
	if len(of) == 0 {
		return Spread{}
	}
	slices.Sort(of)
	at := func(q float64) float64 { return of[int(q*float64(len(of)-1)+0.5)] }
	return Spread{at(0.5), at(0.95)}
}

// working returns how the riders have spent their shifts.
func (r *run) working() Activity {
	var sum [activities]time.Duration
	for _, d := range r.riders {
		spent, _ := d.account()
		for a, t := range spent {
			sum[a] += t
		}
	}
	total := sum[idle] + sum[coming] + sum[carrying]
	if total == 0 {
		return Activity{}
	}
	share := func(a activity) float64 { return float64(sum[a]) / float64(total) }
	return Activity{r.theirs(total).Hours(), share(idle), share(coming), share(carrying)}
}

// earnings returns what the riders who were on shift have earned.
func (r *run) earnings() Earnings {
	var each []int64
	var e Earnings
	for _, d := range r.riders {
		if spent, earned := d.account(); spent[idle]+spent[coming]+spent[carrying] > 0 {
			each = append(each, earned)
			e.Total += earned
		}
	}
	if len(each) > 0 {
		e.Mean = float64(e.Total) / float64(len(each))
	}
	e.Gini = gini(each)
	return e
}

// gini returns the Gini coefficient of incomes, which must not be negative.
func gini(incomes []int64) float64 {
	slices.Sort(incomes)
	total, weighted := 0.0, 0.0
	for i, x := range incomes {
		total += float64(x)
		weighted += float64(i+1) * float64(x)
	}
	if total == 0 {
		return 0
	}
	n := float64(len(incomes))
	return 2*weighted/(n*total) - (n+1)/n
}

// summarize writes the figures in sentences.
func (f *Figures) summarize(b *strings.Builder) {
	if f == nil || f.Requested == 0 {
		return
	}
	fmt.Fprintf(b, "Of %d rides %.0f %% found a raider, and %d were completed; %d were cancelled by users, "+
		"%d released by raiders, %d expired.\n", f.Requested, 100*f.MatchRate, f.Completed, f.ByUsers,
		f.ByRiders, f.Expired)
	fmt.Fprintf(b, "Until the acceptance: %.0f s at the median, %.0f s at p95; until the ride: %.0f s, %.0f s; "+
		"to the pickup: %.0f m, %.0f m.\n", f.Accept.P50, f.Accept.P95, f.Wait.P50, f.Wait.P95, f.Pickup.P50,
		f.Pickup.P95)
	w := f.Working
	fmt.Fprintf(b, "Raiders were on shift for %.1f hours: %.0f %% idle, %.0f %% on the way, %.0f %% with a passenger. "+
		"They earned %.2f each, Gini coefficient %.2f.\n", w.Hours, 100*w.Idle, 100*w.OnTheWay, 100*w.Passenger,
		f.Earned.Mean/100, f.Earned.Gini)
}
