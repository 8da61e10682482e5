package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/bus"
)

// These tests are inside the package because neither the format of a message nor its reading is
// anybody else's business.

func anEvent() booking.Event {
	return booking.Event{
		ID: booking.EventID(booking.NewID()), Booking: booking.ID(booking.NewID()), N: 1, Kind: booking.Requested,
		Actor: booking.Actor{ID: booking.NewID(), Role: booking.User}, Command: booking.CommandID(booking.NewID()),
		Decided: time.Date(2026, 11, 23, 8, 0, 0, 123456789, time.UTC),
		Details: booking.Details{
			Pickup: &booking.Place{Lat: 12.97, Lng: 77.59}, Dropoff: &booking.Place{Lat: -12.93, Lng: 77.62},
			Quote:    &booking.Quote{Metres: 5180, Minutes: 19, Fare: 1<<53 - 1, Currency: "INR"},
			Deadline: time.Date(2026, 11, 23, 8, 2, 0, 1, time.UTC), Reason: "the \"usual\" <way> ☂", Stars: 5,
		},
	}
}

func TestMessagesReadBack(t *testing.T) {
	for _, kind := range booking.Kinds() {
		want := anEvent()
		want.Kind = kind
		m, err := encode(want, "/test", "a.b.c", 7)
		if err != nil {
			t.Fatal(err)
		}
		want.At, want.Seq = time.Now(), 8
		got, _, err := decode(bus.Message{Subject: m.Subject, Header: m.Header, Data: m.Data, Seq: want.Seq,
			StoredAt: want.At})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s reads back differently:\n%s", kind, d)
		}
		if m.Header.Get("Nats-Expected-Last-Subject-Sequence") != "7" ||
			m.Header.Get("Nats-Expected-Last-Subject-Sequence-Subject") != "ledger.booking."+string(want.Booking)+".>" {
			t.Errorf("%s is written with the guard %v", kind, m.Header)
		}
	}
}

// A message that contradicts itself is rejected.
func TestMismatchesAreRefused(t *testing.T) {
	for what, change := range map[string]func(booking.Event, *nats.Msg){
		"the booking in the body": func(_ booking.Event, m *nats.Msg) {
			m.Data = []byte(strings.Replace(string(m.Data), `"booking_id":"`, `"booking_id":"x`, 1))
		},
		"the booking in a header": func(_ booking.Event, m *nats.Msg) {
			m.Header.Set(bus.HeaderSubject,
				booking.NewID())
		},
		"the kind in a header": func(_ booking.Event, m *nats.Msg) {
			m.Header.Set(bus.HeaderType,
				bus.BookingTypePrefix+"cancelled")
		},
		"the subject": func(e booking.Event, m *nats.Msg) {
			m.Subject = bus.EventSubject{Booking: e.Booking, N: e.N, Kind: booking.Accepted}.String()
		},
	} {
		e := anEvent()
		m, err := encode(e, "/test", "a.b.c", 0)
		if err != nil {
			t.Fatal(err)
		}
		change(e, m)
		_, _, err = decode(bus.Message{Subject: m.Subject, Header: m.Header, Data: m.Data, Seq: 1,
			StoredAt: time.Now()})
		if reason, _ := RefusalReason(err); reason != "mismatch" {
			t.Errorf("another %s: %v", what, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	seed, err := encode(anEvent(), "/test", "a.b.c", 0)
	if err != nil {
		f.Fatal(err)
	}
	get := seed.Header.Get
	f.Add(seed.Subject, get(bus.HeaderID), get(bus.HeaderType), get(bus.HeaderSubject), get(bus.HeaderTime), seed.Data)
	f.Add(seed.Subject, get(bus.HeaderID), get(bus.HeaderType), get(bus.HeaderSubject), get(bus.HeaderTime),
		[]byte(`{"v":2}`))
	f.Add("ledger.booking.x.1.requested", "", "", "", "", []byte(`null`))
	f.Add("ledger.rider.x.y.engaged", "", "", "", "", []byte(nil))
	f.Add(seed.Subject, get(bus.HeaderID), get(bus.HeaderType), get(bus.HeaderSubject), get(bus.HeaderTime),
		[]byte(strings.Replace(string(seed.Data), `"v":2`, `"v":1e400`, 1)))
	f.Fuzz(func(t *testing.T, subject, id, kind, about, at string, data []byte) {
		in := bus.Message{Subject: subject, Data: data, Seq: 1, StoredAt: time.Unix(1, 0), Header: nats.Header{
			bus.HeaderID: {id}, bus.HeaderType: {kind}, bus.HeaderSubject: {about}, bus.HeaderTime: {at},
		}}
		e, _, err := decode(in)
		if err != nil {
			if _, ok := RefusalReason(err); !ok {
				t.Fatalf("neither an event nor a refusal: %v", err)
			}
			return
		}
		// What was read is written again as the same event.
		m, err := encode(e, "/test", "", 0)
		if err != nil {
			return // a time that RFC 3339 cannot say
		}
		again, _, err := decode(bus.Message{Subject: m.Subject, Header: m.Header, Data: m.Data, Seq: e.Seq,
			StoredAt: e.At})
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", e, err)
		}
		if !cmp.Equal(e, again) {
			t.Fatalf("written and read again it differs:\n%s", cmp.Diff(e, again))
		}
	})
}
