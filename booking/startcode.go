package booking

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// StartCodes computes start codes: the four digits that a passenger gives the rider at the pickup,
// so that the ride begins with the right person. A code is a keyed hash of the booking and the
// event that opened it. It is stored nowhere, and it changes when the booking is released.
// StartCodes is safe for concurrent use.
//
// [MaxWrongCodes] protects the four digits from guessing.
type StartCodes struct{ key []byte }

// StartCodeKeySize is the minimum size of a key, in bytes.
const StartCodeKeySize = 32

// StartCodeDigits is the number of digits of a start code.
const StartCodeDigits = 4

// MaxWrongCodes is how many wrong start codes a rider may give. After the last one, the system
// releases the booking. Until it has, further codes are refused unseen.
const MaxWrongCodes = 5

// NewStartCodes returns the start codes of a key, which all services of a system share. The key
// must have at least StartCodeKeySize bytes.
func NewStartCodes(key []byte) (*StartCodes, error) {
	if len(key) < StartCodeKeySize {
		return nil, errors.New("start codes: the key is shorter than 32 bytes")
	}
	return &StartCodes{append([]byte(nil), key...)}, nil
}

// Of returns the start code of a booking, or "" if its ride has begun or is over. Do not log it.
func (s *StartCodes) Of(b Booking) string {
	switch b.State {
	case StateOpen, StateAccepted, StateArrived:
		return s.of(b)
	}
	return ""
}

func (s *StartCodes) of(b Booking) string {
	h := hmac.New(sha256.New, s.key)
	h.Write(binary.BigEndian.AppendUint64([]byte("pillion start code\x00"+string(b.ID)+"\x00"), b.OpenedSeq))
	// The bias from the modulus is less than one in 10^15.
	return fmt.Sprintf("%04d", binary.BigEndian.Uint64(h.Sum(nil))%10000)
}

// right reports, in constant time, whether code starts the ride of b. nil StartCodes accept none.
func (s *StartCodes) right(b Booking, code string) bool {
	return s != nil && s.Of(b) != "" && subtle.ConstantTimeCompare([]byte(s.of(b)), []byte(code)) == 1
}
