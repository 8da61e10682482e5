package booking_test

import (
	"strings"
	"testing"

	"github.com/example/pillion/booking"
)

// A reason is kept as everybody reads it.
func TestReasonsAreKeptPlain(t *testing.T) {
	for written, kept := range map[string]string{
		"The rain has stopped.":      "The rain has stopped.",
		" \u00a0late\u3000 ":         "late",
		"Cafe\u0301":                 "Caf\u00e9",
		"\u212bngstro\u0308m":        "\u00c5ngstr\u00f6m",
		"\U0001f469\u200d\U0001f680": "\U0001f469\u200d\U0001f680",
		"\u2764\ufe0f":               "\u2764\ufe0f",
		"  ":                         "",
		"\u200d\ufe0f \u3164":        "", // nothing that anybody could see
		strings.Repeat("e\u0301", booking.MaxReason) + strings.Repeat(" ", 50): strings.Repeat("\u00e9", booking.MaxReason),
	} {
		h := newHouse(t)
		h.tell(t, taken()...)
		b, err := h.Release(t.Context(), by(rider), h.id, written)
		if err != nil || b.Reason != kept {
			t.Errorf("Release(%q) keeps %q, %v, want %q", written, b.Reason, err, kept)
		}
		if b, err = h.Cancel(t.Context(), by(owner), h.id, written); err != nil || b.Reason != kept {
			t.Errorf("Cancel(%q) keeps %q, %v, want %q", written, b.Reason, err, kept)
		}
	}
}

func TestReasonsThatReadOtherwise(t *testing.T) {
	h := newHouse(t)
	h.tell(t, taken()...)
	for _, written := range []string{
		"a\x00", "a\nb", "a\t", "\x1b[2J", "a\u0085b", "a\u2028b", "a\u2029", "\u202etxet", "\u2066a\u2069", "a\u200bb", "\u200c", "\u2060", "\ufeffa",
		"a\u00ad", "a\u061cb", "a\U000e0061", "\u180e", strings.Repeat("x", booking.MaxReason+1),
	} {
		_, err := h.Cancel(t.Context(), by(owner), h.id, written)
		wants(t, err, booking.ErrInvalidReason)
		_, err = h.Release(t.Context(), by(rider), h.id, written)
		wants(t, err, booking.ErrInvalidReason)
	}
}

// What older builds have kept as it was written is still there, and a retry of that command still
// finds it.
func TestReasonsOfOlderBuilds(t *testing.T) {
	for _, written := range []string{" late ", "a\u200bb"} {
		h := newHouse(t)
		h.tell(t, step{Kind: booking.Requested, Actor: owner})
		c := by(owner)
		e := booking.Event{Kind: booking.Cancelled, Actor: owner, Details: booking.Details{Reason: written}}
		if _, err := h.log.Append(t.Context(), c, h.id, h.history(t), e); err != nil {
			t.Fatalf("%q is not taken back: %v", written, err)
		}
		if b, err := h.Cancel(t.Context(), c, h.id, written); err != nil || b.Reason != written {
			t.Errorf("the retry is told %+v, %v", b, err)
		}
	}
}
