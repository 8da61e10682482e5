package booking

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// StartCodes are the four digits that a passenger tells the rider at the pickup, so that the ride begins with the right person. A code is
// a keyed hash of the booking and of the event that opened it: it is stored nowhere, whoever has the key can say it again, and a booking
// that was released has another one. It is safe for concurrent use.
//
// Four digits are not much of a secret: [MaxWrongCodes] is what makes them one.
type StartCodes struct{ key []byte }

// StartCodeKeySize is the least size of a key, in bytes.
const StartCodeKeySize = 32

// StartCodeDigits is how many digits a start code has.
const StartCodeDigits = 4

// NewStartCodes returns the codes of a key. All services of a system have the same.
func NewStartCodes(key []byte) (*StartCodes, error) {
	if len(key) < StartCodeKeySize {
		return nil, errors.New("start codes: the key is shorter than 32 bytes")
	}
	return &StartCodes{append([]byte(nil), key...)}, nil
}

// Of returns the start code of a booking, or "" where a ride cannot begin any more. Do not log it.
func (s *StartCodes) Of(b Booking) string {
	switch b.State {
	case StateOpen, StateAccepted, StateArrived:
		return s.of(b)
	}
	return ""
}

func (s *StartCodes) of(b Booking) string {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte("pillion start code\x00" + string(b.ID) + "\x00"))
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], b.OpenedSeq)
	h.Write(seq[:])
	// Of 2^64 values no digit is likelier than another by more than one in 10^15.
	return fmt.Sprintf("%04d", binary.BigEndian.Uint64(h.Sum(nil))%10000)
}

// right reports whether the ride of b can begin with code, in a time that does not tell how much of
// it is right. Where there are no codes none is.
func (s *StartCodes) right(b Booking, code string) bool {
	return s != nil && s.Of(b) != "" && subtle.ConstantTimeCompare([]byte(s.of(b)), []byte(code)) == 1
}
