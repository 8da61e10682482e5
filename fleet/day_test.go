package fleet_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/wait"
)

// patience is how long a rider keeps a booking without coming nearer.
const patience = 10 * time.Minute

// A day simulates one rider with a very bad phone and network: the real positions, and the reports.
type day struct {
	*testing.T
	*clock
	random      *rand.Rand
	here, there *fleet.Map // the instance that the rider reports to, and another
	board       *board.Board
	desk        *booking.Desk
	manager     *booking.ProcessManager

	truth   booking.Place // the real position
	seconds int
	waiting []fleet.Fix // reports to send
	dead    time.Time   // the network is down until then
	wrong   int         // number of further fixes that are wrong
	where   booking.Place
	told    <-chan fleet.Position
	shown   fleet.Position // the last one the passenger got
}

const riderID, userID = booking.RiderID("ritaritaritaritaritaritari"), "ullaullaullaullaullaullaul"

func newDay(t *testing.T, seed uint64) *day {
	t.Helper()
	d := &day{T: t, clock: &clock{t: noon}, random: rand.New(rand.NewPCG(seed, 12)), truth: town}
	ledger := bookingtest.NewLedger(bookingtest.WithClock(d.now))
	d.board = ledger.Board
	var err error
	if d.desk, err = booking.NewDesk(ledger, booking.DeskOptions{Deadline: time.Hour, Now: d.now}); err != nil {
		t.Fatal(err)
	}
	d.here, _ = newMap(t, fleet.Options{Now: d.now, Heading: d.board.Heading})
	d.there, _ = newMap(t, fleet.Options{Now: d.now, Heading: d.board.Heading})
	act := func(context.Context) (booking.Actor, string, error) {
		return booking.Actor{ID: "croncroncroncroncroncroncr", Role: booking.Service}, "proof", nil
	}
	d.manager, err = booking.NewProcessManager(booking.ProcessManagerConfig{
		Desk: d.desk, Board: d.board, Act: act, Patience: patience, Approach: d.there.Approach, Begun: noon,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// offset returns the place some metres north and east of another.
func offset(p booking.Place, north, east float64) booking.Place {
	return booking.Place{Lat: p.Lat + north/111_195, Lng: p.Lng + east/111_195/math.Cos(p.Lat*math.Pi/180)}
}

func (d *day) chance(p float64) bool { return d.random.Float64() < p }

// second advances the day by a second, in which the rider moves to a place. The phone takes a fix
// every four seconds.
func (d *day) second(to booking.Place) {
	d.Helper()
	d.pass(time.Second)
	d.truth = to
	if d.seconds++; d.seconds%4 == 0 {
		d.look()
	}
	if d.dead.IsZero() && d.chance(0.001) {
		d.dead = d.now().Add(time.Duration(d.random.IntN(150)) * time.Second) // a tunnel
	}
	if _, err := d.manager.ReleaseNoShows(d.Context(), d.now()); err != nil {
		d.Fatal(err)
	}
	if d.now().Before(d.dead) {
		return
	}
	d.dead = time.Time{}
	for i, f := range d.waiting {
		if d.chance(0.05) && i > 0 {
			f = d.waiting[i-1] // out of order, or repeated
		}
		d.send(f)
		if d.chance(0.05) {
			d.send(f) // a retry although the first try arrived
		}
	}
	d.waiting = d.waiting[:0]
}

// look takes a fix, which may be wrong.
func (d *day) look() {
	if d.wrong--; d.wrong < 0 && d.chance(0.03) { // never twice in a row
		d.wrong = 1 + d.random.IntN(7)
		bearing, far := d.random.Float64()*2*math.Pi, 500+d.random.Float64()*3000
		d.where = []booking.Place{{}, abroad, offset(d.truth, far*math.Sin(bearing),
			far*math.Cos(bearing))}[d.random.IntN(3)]
	}
	f := fleet.Fix{At: d.now(), Accuracy: 5 + d.random.Float64()*40}
	f.Place = offset(d.truth, d.random.NormFloat64()*f.Accuracy/2, d.random.NormFloat64()*f.Accuracy/2)
	if d.wrong > 0 {
		f.Place = d.where
	}
	d.waiting = append(d.waiting, f)
}

// send reports a fix. It compares the position that the passenger gets with the one before.
func (d *day) send(f fleet.Fix) {
	d.Helper()
	s, verdict, err := d.here.Report(riderID, f)
	if err != nil || verdict != fleet.Believed {
		return
	}
	if _, err := d.there.Learn(s); err != nil {
		d.Fatal(err)
	}
	select {
	case p := <-d.told:
		if metres, most := p.Distance(
			d.shown.Place,
		), 45*p.At.Sub(d.shown.At).
			Seconds()+
			300; !d.shown.At.IsZero() &&
			metres > most {
			d.Errorf("%s: the passenger sees a jump of %.0f m", d.now().Format(time.TimeOnly), metres)
		}
		d.shown = p
	default:
	}
}

// accept makes the rider accept a booking with a pickup some metres away.
func (d *day) accept(metres float64) booking.Booking {
	d.Helper()
	bearing := d.random.Float64() * 2 * math.Pi
	pickup := offset(d.truth, metres*math.Sin(bearing), metres*math.Cos(bearing))
	return d.acceptAt(booking.Trip{Pickup: &pickup, Dropoff: &town})
}

func (d *day) acceptAt(trip booking.Trip) booking.Booking {
	d.Helper()
	id := booking.ID(booking.NewID())
	if _, err := d.desk.Book(d.Context(), command(userID, booking.User), id, trip); err != nil {
		d.Fatal(err)
	}
	b, err := d.desk.Accept(d.Context(), command(string(riderID), booking.Rider), id)
	if err != nil {
		d.Fatal(err)
	}
	if d.told == nil {
		told, stop := d.there.Watch(riderID)
		d.told = told
		d.Cleanup(stop)
	}
	return b
}

func command(id string, role booking.Role) booking.Command {
	return booking.Command{ID: booking.CommandID(booking.NewID()), Actor: booking.Actor{ID: id, Role: role}}
}

// lost reports whether the system has taken a booking from the rider.
func (d *day) lost(b booking.Booking) bool {
	now, _ := d.board.Get(b.ID)
	return now.State == booking.StateOpen
}

// towards returns the place some metres from one place towards another.
func towards(from, to booking.Place, metres float64) booking.Place {
	far := from.Distance(to)
	if far <= metres {
		return to
	}
	return booking.Place{Lat: from.Lat + (to.Lat-from.Lat)*metres/far, Lng: from.Lng + (to.Lng-from.Lng)*metres/far}
}

// honest rides to the pickup, by a detour and through traffic. It fails the test if the rider
// cannot arrive.
func (d *day) honest() {
	d.Helper()
	b := d.accept(300 + d.random.Float64()*4000)
	via := offset(
		towards(d.truth, *b.Pickup, d.truth.Distance(*b.Pickup)/2),
		d.random.NormFloat64()*500,
		d.random.NormFloat64()*500,
	)
	for _, goal := range []booking.Place{via, *b.Pickup} {
		for d.truth != goal {
			for jam := d.random.IntN(90); d.chance(0.01) && jam > 0; jam-- {
				d.second(d.truth)
			}
			d.second(towards(d.truth, goal, 3+d.random.Float64()*12))
		}
	}
	for range 300 { // the phone finds its place again
		if p, ok := d.here.Where(riderID); ok && p.Distance(*b.Pickup) <= 500 {
			break
		}
		d.second(d.truth)
	}
	if p, ok := d.here.Where(riderID); !ok || p.Distance(*b.Pickup) > 500 {
		d.Errorf("%s: the rider is at the pickup, but Where = %+v, %v", d.now().Format(time.TimeOnly), p, ok)
	}
	if d.lost(b) {
		d.Errorf("%s: an honest rider lost the booking", d.now().Format(time.TimeOnly))
		return
	}
	rider := command(string(riderID), booking.Rider)
	for _, step := range []func(context.Context, booking.Command, booking.ID) (booking.Booking, error){d.desk.Arrive,
		d.desk.Start, d.desk.Complete} {
		rider.ID = booking.CommandID(booking.NewID())
		if _, err := step(d.Context(), rider, b.ID); err != nil {
			d.Fatal(err)
		}
	}
}

// keeps fails the test if a rider who does not come keeps a booking for longer than most.
func (d *day) keeps(b booking.Booking, most time.Duration, move func(second int) booking.Place) {
	d.Helper()
	begun := d.now()
	for i := 0; !d.lost(b); i++ {
		if d.now().Sub(begun) > most {
			d.Fatalf("%s: a rider who does not come has kept the booking for %s", d.now().Format(time.TimeOnly), most)
		}
		d.second(move(i))
	}
	if got := d.now().Sub(begun); got < patience {
		d.Errorf("the rider lost the booking after only %s", got)
	}
}

// On a simulated day of noisy, wrong, late and repeated fixes, no passenger sees a jump, no honest
// rider loses a booking, and no rider who does not come keeps one beyond the patience.
func TestDay(t *testing.T) {
	seeds := uint64(4)
	if wait.Long() {
		seeds = 100
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			d := newDay(t, seed)
			// the first one is wrong
			d.waiting = append(d.waiting, fleet.Fix{Place: abroad, At: noon.Add(-time.Second)})
			for range 60 {
				d.second(town)
			}
			// the rider, or its receiver, comes a little nearer at first
			const slack = 3 * time.Minute
			for range 6 {
				d.honest()
				d.honest()
				start := d.truth
				b := d.accept(3000)
				d.keeps(b, patience+slack, func(int) booking.Place { return start }) // it stands
				b = d.accept(3000)
				// it rides away
				d.keeps(b, patience+slack, func(int) booking.Place { return towards(d.truth, *b.Pickup, -8) })
				b = d.accept(3000)
				start = d.truth
				// it rides to and fro, 400 m at 10 m/s
				d.keeps(b, patience+slack, func(i int) booking.Place {
					return towards(start, *b.Pickup, 400*(1-math.Abs(float64(i%80)/40-1)))
				})
				b = d.accept(4000)
				// it creeps, 60 m in nine minutes
				d.keeps(b, 2*patience, func(i int) booking.Place {
					if i%540 < 8 {
						return towards(d.truth, *b.Pickup, 8)
					}
					return d.truth
				})
				b = d.acceptAt(booking.Trip{}) // without a pickup, the rider rides to and fro
				start = d.truth
				d.keeps(
					b,
					3*patience+slack,
					func(i int) booking.Place { return offset(start, 400*(1-math.Abs(float64(i%80)/40-1)), 0) },
				)
				b = d.accept(3000) // its reports jump to the pickup and back
				start = d.truth
				d.keeps(b, patience+slack, func(i int) booking.Place {
					if i%60 == 0 {
						d.waiting = append(d.waiting, fleet.Fix{Place: *b.Pickup, At: d.now()})
					}
					return start
				})
			}
		})
	}
}
