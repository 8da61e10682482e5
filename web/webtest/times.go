package webtest

import (
	"fmt"
	"regexp"
	"testing"
)

// times are texts that look like one, and written is the one form in which Pillion writes them.
var (
	times   = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)
	written = regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"$`)
)

// CheckTimes fails t unless every time in a JSON text has milliseconds, and is in UTC.
func CheckTimes(t testing.TB, text []byte) {
	t.Helper()
	if err := checkTimes(text); err != nil {
		t.Error(err)
	}
}

func checkTimes(text []byte) error {
	for _, at := range times.FindAll(text, -1) {
		if !written.Match(at) {
			return fmt.Errorf("the time %s is not written as 2006-01-02T15:04:05.000Z in %s", at, text)
		}
	}
	return nil
}
