package web_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/internal/wait"
)

func TestMain(m *testing.M) { os.Exit(wait.Main(m)) }

// request returns a request with headers given as names and values in turn; a name given twice is
// sent twice.
func request(method, target, body string, headers ...string) *http.Request {
	var r *http.Request
	if body == "" {
		r = httptest.NewRequest(method, target, nil)
	} else {
		r = httptest.NewRequest(method, target, io.NopCloser(strings.NewReader(body)))
		r.ContentLength = int64(len(body))
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// answer returns what h answers to r.
func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// journalLogger returns a logger of the old kind that writes to w.
func journalLogger(w io.Writer) *log.Logger { return log.New(w, "", 0) }

// await asks until there is something, as long as a test may wait.
func await[T any](t *testing.T, ask func() []T) []T {
	t.Helper()
	deadline := time.NewTimer(wait.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if got := ask(); len(got) > 0 {
			return got
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("waited in vain")
		}
	}
}
