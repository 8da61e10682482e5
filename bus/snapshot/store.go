package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/example/pillion/booking/board"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/trust"
)

// SnapshotOptions say how a follower keeps snapshots of its board. Key, Keys and Revocations are required.
type Options struct {
	Key         []byte                 // at least 32 bytes that all of our services share, and nobody else has
	Keys        *trust.KeyWatch        // what the ledger's tokens are verified by
	Revocations *trust.RevocationWatch // and what of them was taken back
	// Every is how often a snapshot is made where anything has changed, and never more than ten times as often; 15 minutes by default.
	Every time.Duration
	// Events is after how many messages one is made before that; 50,000 by default, which is a second of reading or less.
	Events uint64
}

// Defaults of SnapshotOptions.
const (
	DefaultEvery         = 15 * time.Minute
	DefaultEvents uint64 = 50_000
)

const (
	// snapshotPatience is how long it may take to load or to store a snapshot. Whoever has begun to make one is left alone for as long.
	patience = time.Minute
	// watchPatience is how long a start waits for keys and revocations, to compare with those that a snapshot was made by.
	watchPatience = 10 * time.Second
	watchPace     = 10 * time.Millisecond
	chunkTries    = 5
)

// snapshots are the snapshots of boards in their bucket.
type Store struct {
	conn        *bus.Conn
	bucket      *bus.Bucket
	mac         mac
	Keys        *trust.KeyWatch
	Revocations *trust.RevocationWatch
	every       time.Duration
	Pause       time.Duration // between two of them, however many messages there are
	events      uint64
}

func NewStore(c *bus.Conn, o Options) (*Store, error) {
	if o.Keys == nil || o.Revocations == nil {
		return nil, errors.New("snapshots: a watch of keys and one of revocations are required")
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	if o.Events == 0 {
		o.Events = DefaultEvents
	}
	seal, err := newMAC(o.Key)
	if err != nil {
		return nil, err
	}
	return &Store{
		conn: c, bucket: c.Bucket(bus.BoardsBucket), mac: seal, Keys: o.Keys, Revocations: o.Revocations,
		every: o.Every, Pause: o.Every / 10, events: o.Events,
	}, nil
}

// latest returns the snapshot that is there, by the word of the leader. Errors: errNoSnapshot, errUnreadable, errOtherRules, errUnreachable.
func (s *Store) Latest(ctx context.Context) (Snapshot, error) {
	m, err := s.conn.Last(ctx, s.bucket.Stream(), s.bucket.Subject(bus.SnapshotKey))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound), errors.Is(err, jetstream.ErrStreamNotFound): // an older provision made no such bucket
		return Snapshot{}, ErrNone
	case err != nil:
		return Snapshot{}, errors.Join(ErrUnreachable, err)
	}
	return s.mac.read(m)
}

// fits reports, with one of the errors of notUsed, whether a reader of the ledger would come to the verdicts that a snapshot holds.
//
// What changes later than this began is none of its business: whoever has looked at the version of the past before hears of it.
func (s *Store) Fits(ctx context.Context, x *Snapshot, ledger *jetstream.StreamInfo) error {
	switch {
	case !x.Ledger.Equal(ledger.Created):
		return errForeign
	case x.Seq < ledger.State.FirstSeq:
		return errAllAged
	}
	m, err := s.conn.Get(ctx, bus.LedgerStream, bus.GetRequest{Seq: x.Seq})
	switch {
	// It has aged just now, or was never there: where the ledger ends was asked before the snapshot was read, and says nothing.
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
	if !trust.SameVerdicts(x.Keys, s.Keys.KeyLives(), x.Latest, x.Strangers) {
		return ErrOtherPast
	}
	return s.sameRevocations(ctx, x)
}

// watching waits until it is known what tokens are judged by. Without that, no event could be judged either.
func (s *Store) watching(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	tick := time.NewTicker(watchPace) // neither of them says when it is ready, and it never takes long
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

// sameRevocations reads what was revoked since a snapshot was made, and answers errOtherPast where that says anything about what is in it.
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
	case errors.Is(err, jetstream.ErrMsgNotFound): // it has aged just now
		return nil
	case err != nil:
		return errors.Join(ErrUnreachable, err)
	case last.Seq <= x.Revocations.Seq: // what came later has been replaced or aged
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
		case trust.ChangesVerdict(bucket, m, x.Latest):
			return ErrOtherPast
		case m.Seq >= last.Seq:
			return nil
		}
	}
}

// load makes a board of a snapshot. Errors: errTorn, errUnreachable.
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
	loading := board.NewLoading()
	for n := 0; n < x.Chunks; {
		m, _, err := reader.Next()
		if err != nil {
			return nil, errors.Join(ErrUnreachable, err)
		}
		if m.Subject != s.chunk(x.ID, n) {
			// Others' chunks may stand in between. The record, or what has replaced it, comes after all of its chunks: that nothing is pending
			// means little, for it may be a replica that has not heard of them yet.
			if m.Seq >= x.revision {
				return nil, errIncomplete
			}
			continue
		}
		block, ok := s.mac.open(sealedChunk, x.ID, n, m.Data)
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

// store stores what a capture yields, and at last the snapshot's record over that of was. It fills in what is known only then. Errors:
// ErrStale where somebody else was faster, board.ErrCaptureLost, and of kind fault.Unavailable.
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
				return err // it may be there, and its chunks with it
			}
		}
	}
	if err != nil {
		ctx, cancel := bus.Farewell(ctx)
		defer cancel()
		return errors.Join(err, s.purge(ctx, x.ID))
	}
	if err := s.purgeBefore(ctx, x); err != nil { // the next one tries it again
		s.conn.Log().Debug("old snapshots take up room", "error", err)
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

// storeChunk stores one chunk, and tries again where nobody knows whether it is there.
func (s *Store) storeChunk(ctx context.Context, x *Snapshot, block []byte) (uint64, error) {
	key := bus.SnapshotChunkPrefix + x.ID + "." + strconv.Itoa(x.Chunks)
	sealed := s.mac.put(sealedChunk, x.ID, x.Chunks, block)
	try := func() (uint64, error) {
		seq, err := s.bucket.Create(ctx, key, sealed)
		if errors.Is(err, bus.ErrKeyExists) { // by the try before
			_, seq, err = s.bucket.Get(ctx, key)
		}
		return seq, err
	}
	return backoff.Retry(ctx, try, backoff.WithBackOff(bus.NewBackOff()), backoff.WithMaxTries(chunkTries))
}

// purge drops the chunks of one snapshot.
func (s *Store) purge(ctx context.Context, id string) error {
	return s.drop(ctx, jetstream.WithPurgeSubject(s.bucket.Subject(bus.SnapshotChunkPrefix+id+".>")))
}

// purgeBefore drops all chunks before those of the last two snapshots: of older ones, and of such as were never finished.
func (s *Store) purgeBefore(ctx context.Context, x *Snapshot) error {
	first := x.First
	if x.Previous > 0 {
		first = min(first, x.Previous)
	}
	return s.drop(ctx, jetstream.WithPurgeSubject(s.bucket.Subject(bus.SnapshotChunkPrefix+">")), jetstream.WithPurgeSequence(first))
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

// claim says that a snapshot is being made, so that others leave it alone for a while. It returns what release needs, and false where somebody else
// makes one. Nothing depends on it: of two who make one after all, the record's revision lets one through.
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

func (s *Store) Release(ctx context.Context, revision uint64) {
	ctx, cancel := bus.Farewell(ctx)
	defer cancel()
	if err := s.bucket.Delete(ctx, bus.SnapshotClaimKey, revision); err != nil {
		s.conn.Log().Debug("the claim to make a snapshot stays until it has run out", "error", fmt.Errorf("release: %w", err))
	}
}

// due reports whether it is time for another snapshot after one that fits.
func (s *Store) Due(x *Snapshot, seq uint64) bool {
	age := time.Since(x.StoredAt)
	return seq > x.Seq && age >= s.Pause && (age >= s.every || seq-x.Seq >= s.events)
}

// replaceable reports whether it is time to replace one that is of no use. Where a newer program has made it, that may still be running,
// and goes on making them.
func (s *Store) Replaceable(x *Snapshot, err error) bool {
	age := time.Since(x.StoredAt)
	if errors.Is(err, errOtherRules) && x.newer() {
		return age >= 2*s.every
	}
	return age >= s.Pause
}
