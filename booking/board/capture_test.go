package board_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/example/pillion/booking"
	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/booking/bookingtest"
)

// A script is what a ledger could hold: events, forgeries and nonsense about some bookings. Each
// line is put on boards as a reader does it.
type script struct {
	lines []func(*board.Board) error
	seqs  []uint64
}

// write makes a script of n messages.
func write(seed uint64, n int) *script {
	src, shadow, s := bookingtest.NewRandom(seed), board.New(), new(script)
	names := 1 + src.IntN(60)
	add := func(seq uint64, line func(*board.Board) error) {
		s.lines, s.seqs = append(s.lines, line), append(s.seqs, seq)
		_ = line(shadow)
	}
	for range n {
		src.ID = booking.ID(fmt.Sprintf("booking-%d", src.IntN(names)))
		b, _ := shadow.Get(src.ID)
		if src.IntN(10) == 0 { // refused before anybody looks at what it says
			src.Seq++
			id, n, k, seq := src.ID, b.Version+src.IntN(4), bookingtest.Pick(src, booking.Kinds()...), src.Seq
			add(seq, func(all *board.Board) error { all.Refuse(id, n, k, seq); return nil })
		}
		e := src.Event(b)
		e.N = b.Version + 1 + max(0, src.IntN(8)-6)
		if src.IntN(15) == 0 {
			e.N += src.IntN(5) - 2
		}
		add(e.Seq, func(all *board.Board) error {
			err := all.Apply(e)
			if err != nil && !errors.Is(err, booking.ErrAged) {
				all.Refuse(e.Booking, e.N, e.Kind, e.Seq)
			}
			return err
		})
	}
	return s
}

// play puts lines on a board, and returns what became of each.
func (s *script) play(all *board.Board, from, to int) (outcomes []string) {
	for i := from; i < to; i++ {
		outcomes = append(outcomes, outcomeOf(s.lines[i](all)))
		all.Advance(s.seqs[i])
	}
	return outcomes
}

// outcomeOf names what became of an event, whatever the sentences say.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "applied"
	case errors.Is(err, booking.ErrAged):
		return "aged"
	case errors.Is(err, booking.ErrPosition):
		return "position"
	case errors.Is(err, booking.ErrDuplicate):
		return "duplicate"
	case errors.Is(err, booking.ErrDoesNotFollow):
		return "does not follow"
	}
	return err.Error()
}

// capture reads a capture to its end. between is called before each block.
func capture(t testing.TB, c *board.Capture, between func()) [][]byte {
	t.Helper()
	var blocks [][]byte
	for {
		if between != nil {
			between()
		}
		block, err := c.Next()
		if errors.Is(err, io.EOF) {
			return blocks
		}
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, block)
	}
}

// content is all that a board knows.
func content(t testing.TB, b *board.Board) []byte {
	t.Helper()
	// the header says how large maps have been
	return bytes.Join(capture(t, b.Capture(), nil)[1:], nil)
}

func load(t testing.TB, blocks [][]byte) *board.Board {
	t.Helper()
	l := board.NewLoader()
	for _, block := range blocks {
		if err := l.Take(block); err != nil {
			t.Fatal(err)
		}
	}
	b, err := l.Board()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A board that was captured and loaded is the board that it was, and becomes with everything that
// follows what that becomes.
func TestCapturedBoards(t *testing.T) {
	for seed := range uint64(40) {
		s := write(seed, 1500)
		half := len(s.lines) / 2
		all := board.New()
		s.play(all, 0, half)
		loaded := load(t, capture(t, all.Capture(), nil))
		if loaded.Seq() != all.Seq() || loaded.Len() != all.Len() || loaded.Remaining() != all.Remaining() ||
			!bytes.Equal(content(t, loaded), content(t, all)) {
			t.Fatalf("seed %d: the loaded board is another one", seed)
		}
		for n := range 60 {
			id := booking.ID(fmt.Sprintf("booking-%d", n))
			a, _ := all.Get(id)
			if b, _ := loaded.Get(id); !reflect.DeepEqual(a, b) {
				t.Fatalf("seed %d: %s is\n%+v, want\n%+v", seed, id, b, a)
			}
		}
		if seed%2 == 0 { // of what is left behind, each is to know when it ages
			first := s.seqs[half/2]
			if a, b := all.Forget(
				first,
			), loaded.Forget(
				first,
			); a != b ||
				!bytes.Equal(content(t, loaded), content(t, all)) {
				t.Fatalf("seed %d: the loaded board forgets %d bookings, want %d", seed, b, a)
			}
		}
		if a, b := s.play(all, half, len(s.lines)), s.play(loaded, half, len(s.lines)); !slices.Equal(a, b) {
			t.Fatalf("seed %d: later events have other outcomes", seed)
		}
		if !bytes.Equal(content(t, loaded), content(t, all)) {
			t.Fatalf("seed %d: the boards go different ways", seed)
		}
		now := noon.Add(30 * time.Second)
		open := all.Open(now, 1000, 0)
		if !slices.Equal(ids(open), ids(loaded.Open(now, 1000, 0))) ||
			!slices.Equal(ids(all.Overdue(now)), ids(loaded.Overdue(now))) {
			t.Fatalf("seed %d: other bookings are open", seed)
		}
		for _, who := range []booking.UserID{"owner", "stranger"} {
			if !slices.Equal(ids(all.OfUser(who, 1000, 0)), ids(loaded.OfUser(who, 1000, 0))) {
				t.Fatalf("seed %d: %s has other bookings", seed, who)
			}
		}
	}
}

// What changes on a board while it is captured is not in the capture.
func TestCaptureIsOfOneMoment(t *testing.T) {
	const n = 4000
	events := rides(
		n,
		[]step{
			{Kind: booking.Requested, Actor: owner},
			{Kind: booking.Accepted, Actor: rider},
			{Kind: booking.Arrived, Actor: rider},
			{Kind: booking.Started, Actor: rider},
			{Kind: booking.Completed, Actor: rider},
		},
	)
	put := func(b *board.Board, es []booking.Event) {
		t.Helper()
		for _, e := range es {
			if err := b.Apply(e); err != nil {
				t.Fatal(err)
			}
			b.Advance(e.Seq)
		}
	}
	// in the second, requests go on coming
	for _, cut := range []int{0, 1, n / 2, n + n/2, 2*n + 7} {
		all, want := board.New(), board.New()
		put(all, events[:cut])
		put(want, events[:cut])
		rest := events[cut:]
		c := all.Capture()
		blocks := capture(t, c, func() {
			some := min(len(rest), 500)
			// From the end of the bookings too, where the capture has not been yet.
			put(all, rest[:some])
			rest = rest[some:]
		})
		if c.Seq() != uint64(cut) {
			t.Errorf("it is as of %d, want %d", c.Seq(), cut)
		}
		got := load(t, blocks)
		if got.Len() != want.Len() || !bytes.Equal(content(t, got), content(t, want)) {
			t.Errorf("cut at %d: the capture is not what the board was", cut)
		}
		put(all, rest)
		put(got, events[cut:])
		if !bytes.Equal(content(t, got), content(t, all)) {
			t.Errorf("cut at %d: the boards go different ways", cut)
		}
	}
}

// A board whose oldest bookings age while it is captured yields the others, and one that becomes
// another board yields nothing any more.
func TestCaptureOfABoardThatForgets(t *testing.T) {
	events := rides(2000, []step{{Kind: booking.Requested, Actor: owner}})
	all := board.New()
	for _, e := range events {
		if err := all.Apply(e); err != nil {
			t.Fatal(err)
		}
		all.Advance(e.Seq)
	}
	forget := uint64(0)
	blocks := capture(t, all.Capture(), func() { forget += 150; all.Forget(forget) })
	got := load(t, blocks)
	got.Forget(forget)
	if !bytes.Equal(content(t, got), content(t, all)) {
		t.Error("the capture has other bookings left")
	}

	c := all.Capture()
	if _, err := c.Next(); err != nil {
		t.Fatal(err)
	}
	other := board.New()
	other.Advance(all.Seq())
	all.Become(other)
	if _, err := c.Next(); !errors.Is(err, board.ErrCaptureLost) {
		t.Errorf("a capture of a board that was replaced: %v", err)
	}
	first, second := all.Capture(), all.Capture()
	if _, err := first.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Next(); !errors.Is(err, board.ErrCaptureLost) {
		t.Errorf("the first of two captures: %v", err)
	}
	second.End()
}

// What an aged booking leaves behind goes when it has aged as well.
func TestWhatRefusedMessagesLeaveBehindAges(t *testing.T) {
	all := board.New()
	all.Refuse("forged", 1, booking.Requested, 5)
	events := rides(
		1,
		[]step{
			{Kind: booking.Requested, Actor: owner},
			{Kind: booking.Accepted, Actor: rider},
			{Kind: booking.Arrived, Actor: rider},
		},
	)
	for i := range events {
		events[i].Seq += 9 // 10, 11, 12
		if err := all.Apply(events[i]); err != nil {
			t.Fatal(err)
		}
	}
	all.Advance(12)
	all.Forget(6)
	again := events[0]
	again.Booking, again.ID, again.Seq = "forged", "other", 13
	if err := all.Apply(again); err != nil {
		t.Errorf("a forgery that has aged is in the way: %v", err)
	}
	all.Forget(11) // the request, and not what followed
	late := events[2]
	late.N, late.Kind, late.ID, late.Seq = 1, booking.Requested, "late", 14
	late.Actor = owner
	if err := all.Apply(late); !errors.Is(err, booking.ErrAged) {
		t.Errorf("a booking that has aged in part got another beginning: %v", err)
	}
	all.Forget(15)
	if err := all.Apply(again2(events[0])); err != nil {
		t.Errorf("an id that is quite forgotten is not new: %v", err)
	}
	if got := content(t, all); bytes.Contains(got, []byte("forged")) {
		t.Error("something is left of what has aged")
	}
}

func again2(e booking.Event) booking.Event {
	e.ID, e.Seq = "again", 20
	return e
}

// Whatever blocks are torn, mixed up or made up, a Loader refuses them or makes a board, and does
// not break.
func TestLoadingOfNonsense(t *testing.T) {
	s := write(7, 1200)
	all := board.New()
	s.play(all, 0, len(s.lines))
	blocks := capture(t, all.Capture(), nil)
	take := func(blocks [][]byte) error {
		l := board.NewLoader()
		for _, b := range blocks {
			if err := l.Take(b); err != nil {
				return err
			}
		}
		_, err := l.Board()
		return err
	}
	for what, torn := range map[string][][]byte{
		"nothing": nil, "without its end": blocks[:len(blocks)-1], "without its header": blocks[1:], "an empty block": append(slices.Clone(blocks[:1]), nil),
		"twice": append(slices.Clone(blocks), blocks...), "a block twice": slices.Insert(slices.Clone(blocks), 2, blocks[2]),
		"another version": append([][]byte{{'B', board.Version + 1, 1, 1, 1, 1}}, blocks[1:]...),
	} {
		if err := take(torn); !errors.Is(err, board.ErrBlock) {
			t.Errorf("%s: %v", what, err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		bad := slices.Clone(blocks)
		i := random.IntN(len(bad))
		b := slices.Clone(bad[i])
		switch random.IntN(3) {
		case 0:
			b = b[:random.IntN(len(b))]
		default:
			for range 1 + random.IntN(4) {
				b[random.IntN(len(b))] = byte(random.Uint32())
			}
		}
		bad[i] = b
		_ = take(bad)
	}
}

// The version of boards goes up when the same events make another board, or a board makes other
// bytes: what an older program has captured is not what a reader would make of the events now.
// Where this fails because of something you meant to change, raise BoardVersion and put the new
// digest here.
func TestBoardVersion(t *testing.T) {
	const version, digest = 4, "2d7b4179cc71e199"
	h := sha256.New()
	for seed := range uint64(60) {
		s := write(seed, 1200)
		all := board.New()
		for _, outcome := range s.play(all, 0, len(s.lines)) {
			fmt.Fprintln(h, outcome)
		}
		for _, block := range capture(t, all.Capture(), nil) {
			h.Write(block)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != digest || board.Version != version {
		t.Errorf("version %d has digest %s, and was to be version %d with %s", board.Version, got, version, digest)
	}
}

// BenchmarkCapture captures and loads a board of a million bookings, and says how long those are
// held up who write to it and look at it meanwhile.
func BenchmarkCapture(b *testing.B) {
	const n = 1_000_000
	all := board.New()
	events := rides(n, []step{{Kind: booking.Requested, Actor: owner}})
	for _, e := range events {
		if err := all.Apply(e); err != nil {
			b.Fatal(err)
		}
		all.Advance(e.Seq)
	}
	runtime.GC()
	var begin, whole, loading time.Duration
	var write, read []time.Duration
	var size int
	for b.Loop() {
		stop := make(chan struct{})
		var others sync.WaitGroup
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				started := time.Now()
				// takes the lock and changes nothing
				all.Refuse(events[i%n].Booking, 1, booking.Requested, 1)
				write = append(write, time.Since(started))
				runtime.Gosched()
			}
		})
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				started := time.Now()
				all.Get(events[i%n].Booking)
				read = append(read, time.Since(started))
				runtime.Gosched()
			}
		})
		started := time.Now()
		c := all.Capture()
		begin = max(begin, time.Since(started))
		blocks := capture(b, c, nil)
		whole = time.Since(started)
		close(stop)
		others.Wait()
		size = 0
		for _, block := range blocks {
			size += len(block)
		}
		started = time.Now()
		if got := load(b, blocks); got.Len() != n {
			b.Fatal("bookings are missing")
		}
		loading = time.Since(started)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(begin.Microseconds()), "begin-µs")
	b.ReportMetric(p999(write), "writer-p99.9-µs")
	b.ReportMetric(p999(read), "reader-p99.9-µs")
	b.ReportMetric(whole.Seconds(), "capture-s")
	b.ReportMetric(loading.Seconds(), "load-s")
	b.ReportMetric(float64(size)/n, "bytes/booking")
}

func p999(of []time.Duration) float64 {
	slices.Sort(of)
	return float64(of[len(of)*999/1000].Microseconds())
}
