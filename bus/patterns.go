package bus

import "github.com/example/pillion/booking"

// Patterns of subjects, for those who say who may use them (package access). The names themselves are in subjects.go.
const (
	EngagedPattern     = RiderPrefix + "*.*" + EngagedSuffix
	QuarantinePattern  = quarantineSubjects
	AuditPattern       = auditSubjects
	TimerPattern       = TimerSetPrefix + "*"
	FeedBookingPattern = FeedBookingPrefix + "*.*.*"
	FeedUserPattern    = FeedUserPrefix + "*.*.*.*"
	FeedRiderPattern   = FeedRiderPrefix + "*.*.*.*"
	FeedOpenPattern    = FeedRiderPrefix + "*" + FeedOpenToken + "*.*.*" // longer than the one before, so that each is somebody else's
	FleetPattern       = PositionSubjects
	RidesSubject       = subjectRides
)

// EventPattern is where all events of a kind are written.
func EventPattern(k booking.Kind) string { return BookingPrefix + "*.*." + string(k) }

// BucketStream is the stream that a bucket is kept in.
func BucketStream(bucket string) string { return bucketStream + bucket }

// BucketPattern is where all values of a bucket are written.
func BucketPattern(bucket string) string { return bucketPrefix + bucket + ".>" }

// FeedOfUser is where a user sees what happens to their own bookings.
func FeedOfUser(id string) string { return FeedUserPrefix + id + ".>" }

// FeedOfRider is where a rider sees what happens to the bookings that they have accepted, and what is open near them.
func FeedOfRider(id string) string { return FeedRiderPrefix + id + ".>" }

// RidesOfRider is the part of [FeedOfRider] that is about bookings which the rider has accepted: an offer's subject is one token longer.
func RidesOfRider(id string) string { return FeedRiderPrefix + id + ".*.*.*" }

// InboxPrefix is the beginning of the subjects on which somebody gets answers. Nobody else may read them.
func InboxPrefix(who string) string { return "_INBOX_" + who }
