package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
	"github.com/example/pillion/internal/retry"
)

// Options are the settings of a Store. Key, Keys and Revocations are required.
type Options struct {
	Key         []byte                 // at least 32 bytes, which only our services share
	Keys        *trust.KeyWatch        // the keys that verify the ledger's tokens
	Revocations *trust.RevocationWatch // the revoked tokens
	// Every is how often a changed board is saved; 15 minutes by default. Events can make it up to
	// ten times as often.
	Every time.Duration
	// Events is the number of messages after which a board is saved earlier; 50,000 by default,
	// which take a second to read, or less.
	Events uint64
}

// Defaults of Options.
const (
	DefaultEvery         = 15 * time.Minute
	DefaultEvents uint64 = 50_000
)

const (
	// patience is how long loading or saving a snapshot may take, and how long a claim holds.
	patience = time.Minute
	// watchPatience is how long a start waits for keys and revocations, to compare them with those
	// of a snapshot.
	watchPatience = 10 * time.Second
	watchPace     = 10 * time.Millisecond
	chunkTries    = 5
)

// A Store reads and writes the snapshots of boards. Keys, Revocations and Pause are read-only.
type Store struct {
	conn        *bus.Conn
	bucket      *bus.Bucket
	mac         mac
	Keys        *trust.KeyWatch
	Revocations *trust.RevocationWatch
	every       time.Duration
	Pause       time.Duration // the least time between two snapshots
	events      uint64
}

// NewStore returns the store on c. It fails where a required option is missing, or Key is too
// short.
func NewStore(c *bus.Conn, o Options) (*Store, error) {
	if o.Keys == nil || o.Revocations == nil {
		return nil, errors.New("snapshots: a watch of keys and one of revocations are required")
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	o.Events = cmp.Or(o.Events, DefaultEvents)
	seal, err := newMAC(o.Key)
	if err != nil {
		return nil, err
	}
	return &Store{
		conn: c, bucket: c.Bucket(bus.BoardsBucket), mac: seal, Keys: o.Keys, Revocations: o.Revocations,
		every: o.Every, Pause: o.Every / 10, events: o.Events,
	}, nil
}

// Latest returns the latest snapshot, from the leader. Errors: ErrNone, errUnreadable,
// errOtherRules, ErrUnreachable.
func (s *Store) Latest(ctx context.Context) (Snapshot, error) {
	m, err := s.conn.Last(ctx, s.bucket.Stream(), s.bucket.Subject(bus.SnapshotKey))
	switch {
	// older versions provision no such bucket
	case errors.Is(err, jetstream.ErrMsgNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return Snapshot{}, ErrNone
	case err != nil:
		return Snapshot{}, errors.Join(ErrUnreachable, err)
	}
	return s.mac.read(m)
}

// Fits returns nil where a reader of the ledger would reach the verdicts of the snapshot, and
// otherwise the reason not to use it.
//
// It does not see what changes after it began. A caller that reads the epoch before learns of that.
func (s *Store) Fits(ctx context.Context, x *Snapshot, ledger *jetstream.StreamInfo) error {
	switch {
	case !x.Ledger.Equal(ledger.Created):
		return errForeign
	case x.Seq < ledger.State.FirstSeq:
		return errAllAged
	}
	m, err := s.conn.Get(ctx, bus.LedgerStream, bus.GetRequest{Seq: x.Seq})
	switch {
	// It has just aged, or never existed. (The ledger's end was read before the snapshot, and says
	// nothing.)
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return errForeign
	case err != nil:
		return errors.Join(ErrUnreachable, err)
	case string(m.Digest()) != string(x.Message):
		return errForeign
	}
	if err := s.watching(ctx); err != nil {
		return errors.Join(ErrUnreachable, err)
	}
	if !trust.SameVerdicts(x.Keys, s.Keys.KeyLives(), x.Latest, x.UnknownKey) ||
		!trust.SameOldRule(x.OldRuleUntil, s.Keys.OldRuleUntil(), x.Seq) {
		return ErrOtherPast
	}
	return s.sameRevocations(ctx, x)
}

// watching waits for keys and revocations. Without them, no event could be judged either.
func (s *Store) watching(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	// neither of them announces that it is ready, and it never takes long
	tick := time.NewTicker(watchPace)
	defer tick.Stop()
	for {
		err := errors.Join(s.Keys.Ready(ctx), s.Revocations.Ready(ctx))
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// sameRevocations reads what was revoked since a snapshot was made, and returns ErrOtherPast where
// that may concern its events.
func (s *Store) sameRevocations(ctx context.Context, x *Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bucket := s.conn.Bucket(bus.RevocationsBucket)
	stream, err := s.conn.Stream(ctx, bucket.Stream())
	if err != nil {
		return errors.Join(ErrUnreachable, err)
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(x.Revocations.Created) || info.State.LastSeq < x.Revocations.Seq {
		return ErrOtherPast
	}
	if info.State.Msgs == 0 || info.State.LastSeq == x.Revocations.Seq {
		return nil
	}
	last, err := s.conn.Last(ctx, bucket.Stream(), bucket.Subject(">"))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // it has just aged
		return nil
	case err != nil:
		return errors.Join(ErrUnreachable, err)
	case last.Seq <= x.Revocations.Seq: // later ones have been replaced or aged
		return nil
	}
	reader, err := s.conn.Read(ctx, stream, x.Revocations.Seq+1)
	if err != nil {
		return errors.Join(ErrUnreachable, err)
	}
	defer reader.Close()
	for {
		m, _, err := reader.Next()
		switch {
		case err != nil:
			return errors.Join(ErrUnreachable, err)
		case s.Revocations.ChangesVerdict(m, x.Latest):
			return ErrOtherPast
		case m.Seq >= last.Seq:
			return nil
		}
	}
}

// Load makes a board of a snapshot. Errors: errIncomplete, ErrUnreachable.
func (s *Store) Load(ctx context.Context, x *Snapshot) (*board.Board, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := s.conn.Stream(ctx, s.bucket.Stream())
	if err != nil {
		return nil, errors.Join(ErrUnreachable, err)
	}
	reader, err := s.conn.Read(ctx, stream, x.First)
	if err != nil {
		return nil, errors.Join(ErrUnreachable, err)
	}
	defer reader.Close()
	loading := board.NewLoader()
	for n := 0; n < x.Chunks; {
		m, _, err := reader.Next()
		if err != nil {
			return nil, errors.Join(ErrUnreachable, err)
		}
		if m.Subject != s.chunk(x.ID, n) {
			// Other snapshots' chunks may come in between. The record, or one that has replaced it,
			// comes after all chunks. That nothing is pending proves little: the replica may lag.
			if m.Seq >= x.revision {
				return nil, errIncomplete
			}
			continue
		}
		block, ok := s.mac.open(chunkKind, x.ID, n, m.Data)
		if !ok {
			return nil, errIncomplete
		}
		if err := loading.Take(block); err != nil {
			return nil, errors.Join(errIncomplete, err)
		}
		n++
	}
	board, err := loading.Board()
	if err != nil {
		return nil, errors.Join(errIncomplete, err)
	}
	if board.Seq() != x.Seq {
		return nil, errIncomplete
	}
	return board, nil
}

func (s *Store) chunk(id string, n int) string {
	return s.bucket.Subject(bus.SnapshotChunkPrefix + id + "." + strconv.Itoa(n))
}

// Save stores a capture, and at last its record in place of was. It completes x. Errors:
// bus.ErrStale where another process was faster, board.ErrCaptureLost, and errors of kind
// fault.Unavailable.
func (s *Store) Save(ctx context.Context, c *board.Capture, x *Snapshot, was Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.storeChunks(ctx, c, x)
	if err == nil {
		x.Previous = was.First
		var record []byte
		if record, err = s.mac.write(x); err == nil {
			x.revision, err = s.bucket.Update(ctx, bus.SnapshotKey, record, was.revision)
			if err != nil && !errors.Is(err, bus.ErrStale) {
				return err // the record may be stored, so its chunks must stay
			}
		}
	}
	if err != nil {
		ctx, cancel := bus.Farewell(ctx)
		defer cancel()
		return errors.Join(err, s.purge(ctx, x.ID))
	}
	if err := s.purgeBefore(ctx, x); err != nil { // the next snapshot tries again
		s.conn.Log().Debug("old snapshots could not be removed", "error", err)
	}
	return nil
}

func (s *Store) storeChunks(ctx context.Context, c *board.Capture, x *Snapshot) error {
	for {
		block, err := c.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		seq, err := s.storeChunk(ctx, x, block)
		if err != nil {
			return err
		}
		if x.Chunks == 0 {
			x.First = seq
		}
		x.Chunks++
		x.Size += int64(len(block))
	}
}

// storeChunk stores one chunk, and retries while the outcome is unknown.
func (s *Store) storeChunk(ctx context.Context, x *Snapshot, block []byte) (uint64, error) {
	key := bus.SnapshotChunkPrefix + x.ID + "." + strconv.Itoa(x.Chunks)
	sealed := s.mac.put(chunkKind, x.ID, x.Chunks, block)
	p := bus.Retries(0)
	p.Tries = chunkTries
	return retry.Get(ctx, p, func() (uint64, error) {
		seq, err := s.bucket.Create(ctx, key, sealed)
		if errors.Is(err, bus.ErrKeyExists) { // by an earlier try
			_, seq, err = s.bucket.Get(ctx, key)
		}
		return seq, err
	})
}

// purge removes the chunks of one snapshot.
func (s *Store) purge(ctx context.Context, id string) error {
	return s.drop(ctx, jetstream.WithPurgeSubject(s.bucket.Subject(bus.SnapshotChunkPrefix+id+".>")))
}

// purgeBefore removes all chunks before those of the last two snapshots, finished or not.
func (s *Store) purgeBefore(ctx context.Context, x *Snapshot) error {
	first := x.First
	if x.Previous > 0 {
		first = min(first, x.Previous)
	}
	return s.drop(ctx, jetstream.WithPurgeSubject(s.bucket.Subject(bus.SnapshotChunkPrefix+">")),
		jetstream.WithPurgeSequence(first))
}

func (s *Store) drop(ctx context.Context, what ...jetstream.StreamPurgeOpt) error {
	ctx, cancel := context.WithTimeout(ctx, bus.ReadPatience)
	defer cancel()
	stream, err := s.conn.Stream(ctx, s.bucket.Stream())
	if err == nil {
		err = stream.Purge(ctx, what...)
	}
	if err != nil {
		return bus.Unavailable("drop old snapshots", err)
	}
	return nil
}

// Claim announces that a snapshot is being made, so that other processes wait a while. It returns
// what Release needs, and false where another process has claimed it. Claims only save work: if two
// processes make a snapshot, the revision of the record lets one through.
func (s *Store) Claim(ctx context.Context) (revision uint64, ok bool, err error) {
	m, err := s.conn.Last(ctx, s.bucket.Stream(), s.bucket.Subject(bus.SnapshotClaimKey))
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, false, bus.Unavailable("claim a snapshot", err)
	}
	if err == nil && m.Header.Get(bus.HeaderOperation) == "" && time.Since(m.StoredAt) < min(patience, s.every) {
		return 0, false, nil
	}
	revision, err = s.bucket.Update(ctx, bus.SnapshotClaimKey, []byte(s.conn.NATS().Opts.Name), m.Seq)
	if errors.Is(err, bus.ErrStale) {
		return 0, false, nil
	}
	return revision, err == nil, err
}

// Release ends a claim.
func (s *Store) Release(ctx context.Context, revision uint64) {
	ctx, cancel := bus.Farewell(ctx)
	defer cancel()
	if err := s.bucket.Delete(ctx, bus.SnapshotClaimKey, revision); err != nil {
		s.conn.Log().Debug("the claim to make a snapshot stays until it expires", "error",
			fmt.Errorf("release: %w", err))
	}
}

// Due reports whether another snapshot is due after one that fits.
func (s *Store) Due(x *Snapshot, seq uint64) bool {
	age := time.Since(x.StoredAt)
	return seq > x.Seq && age >= s.Pause && (age >= s.every || seq-x.Seq >= s.events)
}

// Replaceable reports whether a snapshot that is of no use, because of err, may be replaced. One by
// a newer program stays longer: that program may still run, and save more.
func (s *Store) Replaceable(x *Snapshot, err error) bool {
	age := time.Since(x.StoredAt)
	if errors.Is(err, errOtherRules) && x.newer() {
		return age >= 2*s.every
	}
	return age >= s.Pause
}
