// Package live serves the board of the whole city: who is where, what is open, how fast bookings
// are accepted, and each verified event as it comes.
//
// Make a [Service] with [New], run [Service.Run], and serve [Service.Routes]. It shows all people's
// rides, so every call needs a token, and Config.May says whose.
package live

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus/ledger"
	"github.com/example/pillion/bus/story"
	"github.com/example/pillion/fleet"
	"github.com/example/pillion/internal/fault"
	"github.com/example/pillion/internal/jsontime"
	"github.com/example/pillion/token"
	"github.com/example/pillion/web"
	"github.com/example/pillion/web/bookings"
)

// ErrNotOperator refuses an account that may not see the board.
var ErrNotOperator = fault.New(fault.Forbidden, "not_operator", "Only operators can see the board.")

// A City is a simulated city, whose users book and whose riders ride.
type City interface {
	Running() bool
	// Turn starts or stops it, and may be repeated. It does not wait for that.
	Turn(on bool)
}

// Config is what a Service needs. All fields but City and Streams are required.
type Config struct {
	Board    *board.Board
	Ready    func(context.Context) error // nil once the board can be trusted
	Follower *ledger.Follower            // which feeds the board; the caller runs it
	Fleet    *fleet.Map
	Story    func(context.Context, booking.ID) (story.Story, error)
	Verifier web.TokenVerifier
	May      func(token.Claims) bool // whether an account may see the board
	City     City                    // nil: there is none
	Streams  web.StreamLimits
	Router   web.RouterConfig
}

// A Service answers the calls of the board. It is safe for concurrent use.
type Service struct {
	c     Config
	tally *tally
}

// New returns a Service.
func New(c Config) *Service {
	if c.Router.Now == nil {
		c.Router.Now = time.Now
	}
	return &Service{c: c, tally: newTally()}
}

// Run counts what happens until ctx ends, and then returns nil. It begins with the last events
// before its start.
func (s *Service) Run(ctx context.Context) error { return s.tally.run(ctx, s.c.Follower) }

// Routes returns all routes. Call it once: it registers the metrics.
func (s *Service) Routes() chi.Router {
	r := web.NewRouter(s.c.Router)
	streams := web.NewStreams(s.c.Streams, s.c.Verifier, s.c.Router)
	only := func(query ...string) chi.Router {
		return r.With(web.RequireAny(s.c.Verifier, ErrNotOperator.Message, token.User, token.Rider), s.operators,
			web.Query(query...))
	}
	only("after").Get("/events", web.Handle(s.watch(streams)))
	only().Get("/bookings/{id}", web.Handle(func(w http.ResponseWriter, r *http.Request) error {
		told, err := s.c.Story(r.Context(), bookings.PathID(r))
		if err != nil {
			return err
		}
		return web.WriteJSON(w, http.StatusOK, told)
	}))
	if s.c.City != nil {
		only().Post("/city/start", web.Handle(s.turn(true)))
		only().Post("/city/stop", web.Handle(s.turn(false)))
	}
	return r
}

// operators passes those who may see the board.
func (s *Service) operators(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if claims, _ := web.Caller(r.Context()); !s.c.May(claims) {
			web.WriteError(w, r, ErrNotOperator)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A cityView says whether the simulated city runs.
type cityView struct {
	Running bool `json:"running"`
}

// turn starts or stops the simulated city.
func (s *Service) turn(on bool) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := web.DecodeOptional(r, new(struct{})); err != nil {
			return err
		}
		s.c.City.Turn(on)
		return web.WriteJSON(w, http.StatusOK, cityView{on})
	}
}

// The board is drawn every pace. Events come at once.
const pace = time.Second

// watch sends what is open and the last events, and then each event, and every second the figures
// and where riders are. A client that comes back gets the events that it has missed, if they are
// among the last ones.
func (s *Service) watch(streams *web.Streams) web.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		after, _, err := web.LastEventID(r)
		if err != nil {
			return err
		}
		if err := s.c.Ready(r.Context()); err != nil {
			return bookings.ErrCatchingUp.Because(err)
		}
		st, err := streams.Open(w, r)
		if err != nil {
			return err
		}
		defer st.Close()
		if err := st.Begin(); err == nil {
			_ = s.run(st, after) // the error has ended the stream
		}
		return nil
	}
}

// errLeft is returned by run only if a method of the stream has not returned an error first.
var errLeft = errors.New("the stream has ended")

// run sends everything. It returns an error in any case, and has handled it.
func (s *Service) run(st *web.Stream, after uint64) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	if err := st.Send(append(s.city(), s.open())...); err != nil {
		return err
	}
	for {
		events, more := s.tally.after(after)
		sent := make([]web.Event, len(events))
		for i, e := range events {
			sent[i], after = web.Event{ID: e.Seq, Event: "event", Data: e}, e.Seq
		}
		if err := st.Send(sent...); err != nil {
			return err
		}
		var err error
		select {
		case <-more:
		case <-tick.C:
			err = st.Send(s.city()...)
		case <-st.Due():
			err = st.KeepAlive()
		case <-st.Over():
			if err = st.Leave(); err == nil {
				err = errLeft
			}
		}
		if err != nil {
			return err
		}
	}
}

// mostShown bounds the open bookings, and the riders, of one board.
const mostShown = 10_000

type openBooking struct {
	Booking booking.ID     `json:"booking_id"`
	State   booking.State  `json:"state"`
	Pickup  *booking.Place `json:"pickup,omitempty"`
	Dropoff *booking.Place `json:"dropoff,omitempty"`
}

// open returns the message with all open bookings.
func (s *Service) open() web.Event {
	found := s.c.Board.Open(s.c.Router.Now(), mostShown, 0)
	all := make([]openBooking, len(found))
	for i, b := range found {
		all[i] = openBooking{b.ID, b.State, b.Pickup, b.Dropoff}
	}
	return web.Event{Event: "bookings", Data: struct {
		Bookings []openBooking `json:"bookings"`
	}{all}}
}

// city returns the messages with the figures, and with all riders who are online: id, latitude,
// longitude, and whether they have a ride.
func (s *Service) city() []web.Event {
	f, present := s.tally.figures(), s.c.Fleet.Present(mostShown)
	riders := make([][4]any, len(present))
	for i, r := range present {
		riders[i] = [4]any{r.Rider, round(r.Lat), round(r.Lng), r.Busy}
		if r.Busy {
			f.Riders.Busy++
		}
	}
	f.Riders.Online = len(present)
	if s.c.City != nil {
		f.City = &cityView{s.c.City.Running()}
	}
	return []web.Event{{Event: "city", Data: f}, {Event: "riders", Data: struct {
		Riders [][4]any `json:"riders"`
	}{riders}}}
}

// An event is one line of the board's list. The ledger's reader has verified it.
type event struct {
	Seq     uint64         `json:"seq"`
	At      jsontime.Time  `json:"at"`
	Booking booking.ID     `json:"booking_id"`
	N       int            `json:"n"`
	Event   booking.Kind   `json:"event"`
	State   booking.State  `json:"state"` // of the booking, after it
	Role    booking.Role   `json:"role"`
	Pickup  *booking.Place `json:"pickup,omitempty"` // while it is open
	Dropoff *booking.Place `json:"dropoff,omitempty"`
}
