package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// A client makes one call at a time, and keeps its connections. It does as little as it can,
// because it shares the machine with what is measured.
type client struct {
	system *system
	number int
	user   person
	riders []person // who accept what this client books
	next   int      // of riders, whose turn it is
	links  map[string]*link

	rides []ride // that were acknowledged as accepted
}

// A ride is an accepted booking.
type ride struct {
	booking     string
	user, rider person
}

// A link is a connection to one address.
type link struct {
	net.Conn
	in  *bufio.Reader
	out []byte
}

// clients returns n clients. Each rider belongs to one of them.
func (s *system) clients(n int) []*client {
	all := make([]*client, n)
	for i := range all {
		c := &client{system: s, number: i, user: s.people.users[i%len(s.people.users)], links: map[string]*link{}}
		for r := i; r < len(s.people.riders); r += n {
			c.riders = append(c.riders, s.people.riders[r])
		}
		all[i] = c
	}
	return all
}

// close ends the connections.
func (c *client) close() {
	for _, l := range c.links {
		_ = l.Close() // no call is under way
	}
}

// post calls one of the instances of a service, always the same.
func (c *client) post(instances []string, path string, who person, body string) (answer, error) {
	return c.call(instances[c.number%len(instances)], http.MethodPost, path, who.token, body)
}

// An answer is the body of an answer with status 200 or 201.
type answer []byte

// field returns a member of a JSON object, or "".
func (a answer) field(name string) string {
	var m map[string]any
	if err := json.Unmarshal(a, &m); err != nil {
		return ""
	}
	text, _ := m[name].(string)
	return text
}

// A refusal is an answer with another status.
type refusal struct {
	call   string
	status int
	body   string
}

func (r refusal) Error() string { return fmt.Sprintf("%s: %d %s", r.call, r.status, r.body) }

// call makes one call. Its error is a refusal, or one of the network.
func (c *client) call(to, method, path, token, body string) (answer, error) {
	l := c.links[to]
	if l == nil {
		made, err := net.Dial("tcp", to)
		if err != nil {
			return nil, err
		}
		l = &link{Conn: made, in: bufio.NewReader(made)}
		c.links[to] = l
	}
	l.out = fmt.Appendf(l.out[:0], "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Accept: application/json\r\nContent-Length: %d\r\n", method, path, to, len(body))
	if token != "" {
		l.out = fmt.Appendf(l.out, "Authorization: Bearer %s\r\n", token)
	}
	l.out = fmt.Appendf(l.out, "\r\n%s", body)
	status, got, err := l.exchange()
	if err != nil {
		delete(c.links, to)
		_ = l.Close() // it is of no use any more
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if status != http.StatusOK && status != http.StatusCreated {
		return nil, refusal{method + " " + path, status, string(got)}
	}
	return got, nil
}

// exchange sends what is in l.out and reads the answer.
func (l *link) exchange() (status int, body []byte, err error) {
	if _, err := l.Write(l.out); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
