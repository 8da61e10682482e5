package bus

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
)

// SnapshotOptions say how a follower keeps snapshots of its board. Key, Keys and Revocations are required.
type SnapshotOptions struct {
	Key         []byte           // at least 32 bytes that all of our services share, and nobody else has
	Keys        *KeyWatch        // what the ledger's tokens are verified by
	Revocations *RevocationWatch // and what of them was taken back
	// Every is how often a snapshot is made where anything has changed, and never more than ten times as often; 15 minutes by default.
	Every time.Duration
	// Events is after how many messages one is made before that; 50,000 by default, which is a second of reading or less.
	Events uint64
}

// Defaults of SnapshotOptions.
const (
	DefaultSnapshotEvery         = 15 * time.Minute
	DefaultSnapshotEvents uint64 = 50_000
)

const (
	// snapshotPatience is how long it may take to load or to store a snapshot. Whoever has begun to make one is left alone for as long.
	snapshotPatience = time.Minute
	// watchPatience is how long a start waits for keys and revocations, to compare with those that a snapshot was made by.
	watchPatience = 10 * time.Second
	watchPace     = 10 * time.Millisecond
	chunkTries    = 5
)

// snapshots are the snapshots of boards in their bucket.
type snapshots struct {
	conn        *Conn
	bucket      *Bucket
	seal        seal
	keys        *KeyWatch
	revocations *RevocationWatch
	every       time.Duration
	pause       time.Duration // between two of them, however many messages there are
	events      uint64
}

func (c *Conn) snapshots(o SnapshotOptions) (*snapshots, error) {
	if o.Keys == nil || o.Revocations == nil {
		return nil, errors.New("snapshots: a watch of keys and one of revocations are required")
	}
	if o.Every <= 0 {
		o.Every = DefaultSnapshotEvery
	}
	if o.Events == 0 {
		o.Events = DefaultSnapshotEvents
	}
	seal, err := newSeal(o.Key)
	if err != nil {
		return nil, err
	}
	return &snapshots{
		conn: c, bucket: c.Bucket(BoardsBucket), seal: seal, keys: o.Keys, revocations: o.Revocations,
		every: o.Every, pause: o.Every / 10, events: o.Events,
	}, nil
}

// latest returns the snapshot that is there, by the word of the leader. Errors: errNoSnapshot, errUnreadable, errOtherRules, errUnreachable.
func (s *snapshots) latest(ctx context.Context) (snapshot, error) {
	m, err := s.conn.leaderLast(ctx, s.bucket.stream(), s.bucket.subject(snapshotKey))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound), errors.Is(err, jetstream.ErrStreamNotFound): // an older provision made no such bucket
		return snapshot{}, errNoSnapshot
	case err != nil:
		return snapshot{}, errors.Join(errUnreachable, err)
	}
	return s.seal.read(m)
}

// fits reports, with one of the errors of notUsed, whether a reader of the ledger would come to the verdicts that a snapshot holds.
//
// What changes later than this began is none of its business: whoever has looked at the version of the past before hears of it.
func (s *snapshots) fits(ctx context.Context, x *snapshot, ledger *jetstream.StreamInfo) error {
	switch {
	case !x.Ledger.Equal(ledger.Created):
		return errForeign
	case x.Seq < ledger.State.FirstSeq:
		return errAllAged
	}
	m, err := s.conn.leaderGet(ctx, LedgerStream, getRequest{Seq: x.Seq})
	switch {
	// It has aged just now, or was never there: where the ledger ends was asked before the snapshot was read, and says nothing.
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return errForeign
	case err != nil:
		return errors.Join(errUnreachable, err)
	case string(m.digest()) != string(x.Message):
		return errForeign
	}
	if err := s.watching(ctx); err != nil {
		return errors.Join(errUnreachable, err)
	}
	if !sameKeys(x.Keys, s.keys.lives(), x.Latest, x.Strangers) {
		return errOtherPast
	}
	return s.sameRevocations(ctx, x)
}

// watching waits until it is known what tokens are judged by. Without that, no event could be judged either.
func (s *snapshots) watching(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	tick := time.NewTicker(watchPace) // neither of them says when it is ready, and it never takes long
	defer tick.Stop()
	for {
		err := errors.Join(s.keys.Ready(ctx), s.revocations.Ready(ctx))
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
func (s *snapshots) sameRevocations(ctx context.Context, x *snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	bucket := s.conn.Bucket(RevocationsBucket)
	stream, err := s.conn.stream(ctx, bucket.stream())
	if err != nil {
		return errors.Join(errUnreachable, err)
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(x.Revocations.Created) || info.State.LastSeq < x.Revocations.Seq {
		return errOtherPast
	}
	if info.State.Msgs == 0 || info.State.LastSeq == x.Revocations.Seq {
		return nil
	}
	last, err := s.conn.leaderLast(ctx, bucket.stream(), bucket.subject(">"))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // it has aged just now
		return nil
	case err != nil:
		return errors.Join(errUnreachable, err)
	case last.seq <= x.Revocations.Seq: // what came later has been replaced or aged
		return nil
	}
	reader, err := s.conn.read(ctx, stream, x.Revocations.Seq+1)
	if err != nil {
		return errors.Join(errUnreachable, err)
	}
	defer reader.close()
	for {
		m, _, err := reader.next()
		switch {
		case err != nil:
			return errors.Join(errUnreachable, err)
		case bucket.changesVerdict(m, x.Latest):
			return errOtherPast
		case m.seq >= last.seq:
			return nil
		}
	}
}

// load makes a board of a snapshot. Errors: errTorn, errUnreachable.
func (s *snapshots) load(ctx context.Context, x *snapshot) (*board.Board, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	stream, err := s.conn.stream(ctx, s.bucket.stream())
	if err != nil {
		return nil, errors.Join(errUnreachable, err)
	}
	reader, err := s.conn.read(ctx, stream, x.First)
	if err != nil {
		return nil, errors.Join(errUnreachable, err)
	}
	defer reader.close()
	loading := board.NewLoader()
	for n := 0; n < x.Chunks; {
		m, _, err := reader.next()
		if err != nil {
			return nil, errors.Join(errUnreachable, err)
		}
		if m.subject != s.chunk(x.ID, n) {
			// Others' chunks may stand in between. The record, or what has replaced it, comes after all of its chunks: that nothing is pending
			// means little, for it may be a replica that has not heard of them yet.
			if m.seq >= x.revision {
				return nil, errTorn
			}
			continue
		}
		block, ok := s.seal.open(sealedChunk, x.ID, n, m.data)
		if !ok {
			return nil, errTorn
		}
		if err := loading.Take(block); err != nil {
			return nil, errors.Join(errTorn, err)
		}
		n++
	}
	board, err := loading.Board()
	if err != nil {
		return nil, errors.Join(errTorn, err)
	}
	if board.Seq() != x.Seq {
		return nil, errTorn
	}
	return board, nil
}

func (s *snapshots) chunk(id string, n int) string {
	return s.bucket.subject(snapshotChunk + id + "." + strconv.Itoa(n))
}

// store stores what a capture yields, and at last the snapshot's record over that of was. It fills in what is known only then. Errors:
// ErrStale where somebody else was faster, board.ErrCaptureLost, and of kind fault.Unavailable.
func (s *snapshots) store(ctx context.Context, c *board.Capture, x *snapshot, was snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	err := s.storeChunks(ctx, c, x)
	if err == nil {
		x.Previous = was.First
		var record []byte
		if record, err = s.seal.write(x); err == nil {
			x.revision, err = s.bucket.Update(ctx, snapshotKey, record, was.revision)
			if err != nil && !errors.Is(err, ErrStale) {
				return err // it may be there, and its chunks with it
			}
		}
	}
	if err != nil {
		ctx, cancel := farewell(ctx)
		defer cancel()
		return errors.Join(err, s.purge(ctx, x.ID))
	}
	if err := s.purgeBefore(ctx, x); err != nil { // the next one tries it again
		s.conn.log.Debug("old snapshots take up room", "error", err)
	}
	return nil
}

func (s *snapshots) storeChunks(ctx context.Context, c *board.Capture, x *snapshot) error {
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
func (s *snapshots) storeChunk(ctx context.Context, x *snapshot, block []byte) (uint64, error) {
	key := snapshotChunk + x.ID + "." + strconv.Itoa(x.Chunks)
	sealed := s.seal.put(sealedChunk, x.ID, x.Chunks, block)
	try := func() (uint64, error) {
		seq, err := s.bucket.Create(ctx, key, sealed)
		if errors.Is(err, ErrKeyExists) { // by the try before
			_, seq, err = s.bucket.Get(ctx, key)
		}
		return seq, err
	}
	return backoff.Retry(ctx, try, backoff.WithBackOff(newBackOff()), backoff.WithMaxTries(chunkTries))
}

// purge drops the chunks of one snapshot.
func (s *snapshots) purge(ctx context.Context, id string) error {
	return s.drop(ctx, jetstream.WithPurgeSubject(s.bucket.subject(snapshotChunk+id+".>")))
}

// purgeBefore drops all chunks before those of the last two snapshots: of older ones, and of such as were never finished.
func (s *snapshots) purgeBefore(ctx context.Context, x *snapshot) error {
	first := x.First
	if x.Previous > 0 {
		first = min(first, x.Previous)
	}
	return s.drop(ctx, jetstream.WithPurgeSubject(s.bucket.subject(snapshotChunk+">")), jetstream.WithPurgeSequence(first))
}

func (s *snapshots) drop(ctx context.Context, what ...jetstream.StreamPurgeOpt) error {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	stream, err := s.conn.stream(ctx, s.bucket.stream())
	if err == nil {
		err = stream.Purge(ctx, what...)
	}
	if err != nil {
		return unavailable("drop old snapshots", err)
	}
	return nil
}

// claim says that a snapshot is being made, so that others leave it alone for a while. It returns what release needs, and false where somebody else
// makes one. Nothing depends on it: of two who make one after all, the record's revision lets one through.
func (s *snapshots) claim(ctx context.Context) (revision uint64, ok bool, err error) {
	m, err := s.conn.leaderLast(ctx, s.bucket.stream(), s.bucket.subject(snapshotClaim))
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, false, unavailable("claim a snapshot", err)
	}
	if err == nil && m.header.Get(headerOperation) == "" && time.Since(m.at) < min(snapshotPatience, s.every) {
		return 0, false, nil
	}
	revision, err = s.bucket.Update(ctx, snapshotClaim, []byte(s.conn.nc.Opts.Name), m.seq)
	if errors.Is(err, ErrStale) {
		return 0, false, nil
	}
	return revision, err == nil, err
}

func (s *snapshots) release(ctx context.Context, revision uint64) {
	ctx, cancel := farewell(ctx)
	defer cancel()
	if err := s.bucket.Delete(ctx, snapshotClaim, revision); err != nil {
		s.conn.log.Debug("the claim to make a snapshot stays until it has run out", "error", fmt.Errorf("release: %w", err))
	}
}
