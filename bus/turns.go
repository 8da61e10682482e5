package bus

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// A FeedTurn says whose turn it is to publish the feed, and how far that is. Package feed explains
// it. It is the value of FeedTurnKey in the bucket TURNS, as JSON.
type FeedTurn struct {
	Owner string `json:"owner"` // an instance; "": nobody's
	Done  uint64 `json:"done"`  // everything up to this sequence of the ledger has been published
}

// FeedTurn returns the turn and the revision of its record. An unreadable record is nobody's, and
// Done is 0. Errors: ErrNoKey, and of kind fault.Unavailable.
func (c *Conn) FeedTurn(ctx context.Context) (t FeedTurn, revision uint64, err error) {
	value, revision, err := c.Bucket(TurnsBucket).Get(ctx, FeedTurnKey)
	if err == nil && json.Unmarshal(value, &t) != nil {
		t = FeedTurn{}
	}
	return t, revision, err
}

// WriteFeedTurn replaces the record of a revision, or makes the first one, where that is 0. It
// returns the new revision. Errors: those of [Bucket.Create] and [Bucket.Update].
func (c *Conn) WriteFeedTurn(ctx context.Context, t FeedTurn, revision uint64) (uint64, error) {
	value, err := json.Marshal(t)
	if err != nil {
		return 0, err
	}
	if revision == 0 {
		return c.Bucket(TurnsBucket).Create(ctx, FeedTurnKey, value)
	}
	return c.Bucket(TurnsBucket).Update(ctx, FeedTurnKey, value, revision)
}

// FeedBegins returns up to where a feed without a record counts as published: as far as the
// consumer of an older version has got, or else everything.
func (c *Conn) FeedBegins(ctx context.Context) (done uint64, former bool, err error) {
	consumer, err := c.Consumer(ctx, LedgerStream, FormerFeedConsumer)
	if err == nil {
		return consumer.CachedInfo().AckFloor.Stream, true, nil
	}
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0, false, Unavailable("look at consumer "+FormerFeedConsumer, err)
	}
	done, err = c.End(ctx, LedgerStream)
	return done, false, err
}

// provisionTurns has the feed begin now, unless it has begun. Consumers of an older version stay as
// long as its instances may need them: those would be unready without.
func (c *Conn) provisionTurns(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, provisionWait)
	defer cancel()
	_, _, err := c.FeedTurn(ctx)
	if err == nil {
		return c.deleteFormer(ctx)
	}
	if !errors.Is(err, ErrNoKey) {
		return err
	}
	done, former, err := c.FeedBegins(ctx)
	if err != nil || former { // the first new instance goes on there
		return err
	}
	_, err = c.WriteFeedTurn(ctx, FeedTurn{Done: done}, 0)
	return err
}

// deleteFormer deletes the consumers of an older version, unless an instance of it reads them.
func (c *Conn) deleteFormer(ctx context.Context) error {
	former := []string{FormerFeedConsumer, FormerDeadlinesConsumer}
	for _, name := range former {
		consumer, err := c.Consumer(ctx, LedgerStream, name)
		if err == nil && consumer.CachedInfo().NumWaiting > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return Unavailable("look at consumer "+name, err)
		}
	}
	for _, name := range former {
		if err := c.js.DeleteConsumer(ctx, LedgerStream, name); err != nil &&
			!errors.Is(err, jetstream.ErrConsumerNotFound) {
			return Unavailable("delete consumer "+name, err)
		}
	}
	return nil
}
