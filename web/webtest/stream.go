package webtest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/example/pillion/internal/wait"
)

// A Stream is an answer of Server-Sent Events that a test reads, event by event, with a reader that
// is not Pillion's.
type Stream struct {
	Status int
	Header http.Header

	t      testing.TB
	events chan sse.Event
	cancel context.CancelFunc
	done   chan struct{}
}

// Watch opens a stream at a URL, with a token; headers are names and values in turn. It fails t
// where the answer is no stream. It is closed after the test.
func Watch(t testing.TB, url, bearer string, headers ...string) *Stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Stream{t: t, events: make(chan sse.Event), cancel: cancel, done: make(chan struct{})}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req) //nolint:bodyclose // the reader closes it
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s.Status, s.Header = res.StatusCode, res.Header
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		cancel()
		t.Fatalf("%s: %s %s %q is no stream", url, res.Status, res.Header.Get("Content-Type"), body)
	}
	go func() {
		defer close(s.done)
		defer close(s.events)
		defer func() { _ = res.Body.Close() }()
		for e, err := range sse.Read(bufio.NewReader(res.Body), nil) {
			if err != nil {
				return
			}
			select {
			case s.events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(s.Close)
	return s
}

// Close leaves the stream.
func (s *Stream) Close() {
	s.cancel()
	<-s.done
}

// Next returns the next event, as "id kind" (the id is the last one that there was) and its data.
// It fails the test where there is none in time.
func (s *Stream) Next() (id, kind, data string) {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		if !ok {
			s.t.Fatal("the stream ends without saying why")
		}
		CheckTimes(s.t, []byte(e.Data))
		return e.LastEventID, e.Type, e.Data
	case <-time.After(wait.Patience):
		s.t.Fatal("the stream says nothing")
	}
	return "", "", ""
}

// Want fails the test unless the next event is of a kind, with all of these in its data. It returns
// its id and its data.
func (s *Stream) Want(kind string, parts ...string) (id, data string) {
	s.t.Helper()
	id, got, data := s.Next()
	if got != kind {
		s.t.Fatalf("told %s %s, want %s", got, data, kind)
	}
	for _, part := range parts {
		if !strings.Contains(data, part) {
			s.t.Errorf("%s says %s, want %s in it", kind, data, part)
		}
	}
	return id, data
}

// Ended fails the test unless the stream ends now, for that reason.
func (s *Stream) Ended(reason string) {
	s.t.Helper()
	s.Want("end", `"reason":"`+reason+`"`)
	select {
	case e, ok := <-s.events:
		if ok {
			s.t.Errorf("told %s after the end", e.Type)
		}
	case <-time.After(wait.Patience):
		s.t.Error("the stream does not end")
	}
}
