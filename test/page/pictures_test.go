package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestPictures takes pictures of the page: a booking and its story on a phone, and the board on a
// desk.
func TestPictures(t *testing.T) {
	if os.Getenv("PILLION_SHOTS") == "" {
		t.Skip("The pictures are taken by make web-test SHOTS=1.")
	}
	browser := newBrowser(t)
	origin, _ := start(t)
	town := town{TB: t, origin: origin}
	town.live()

	user := open(t, browser, origin, "/", look{390, "light", true}, chromedp.WithNewBrowserContext())
	user.press("Continue as john@example.com")
	user.see("Where to?")
	user.pick(station, market)
	user.press("Book for")
	user.see("Looking for a rider")
	rider := town.person("raider", 99)
	rider.do("PUT", "/rider/position", `{"lat":12.9748,"lng":77.5926}`)
	rider.do("POST", "/rider/accept-booking", "{}")
	user.see("from the pickup.")
	user.shot("booking")

	desk := open(t, user.ctx, origin, "/#board", look{1440, "light", true})
	desk.see("95 in 100 within")
	desk.see("✓ signature, role, order")
	desk.shot("board")
	desk.press("Watch")
	desk.see("Your latest bookings")
	user.press("See each event and its signature")
	user.press("✓ Verified")
	user.see("pillion-ledger")
	user.shot("story")
}

// A town has some people for a picture.
type town struct {
	testing.TB
	origin string
}

// A person is one of them.
type person struct {
	town
	token string
}

// person registers somebody.
func (w town) person(role string, n int) person {
	w.Helper()
	p := person{town: w}
	who := fmt.Sprintf(`{"email":"%s%d@example.com","password":"%s","role":"%s"}`, role, n, password, role)
	p.do("POST", "/auth/register", who)
	p.token, _ = p.do("POST", "/auth/login", who)["token"].(string)
	return p
}

// do makes a request that must succeed.
func (p person) do(method, path, body string) (answer map[string]any) {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), method, p.origin+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode >= 300 {
		p.Fatalf("%s %s: %d %v (%v)", method, path, resp.StatusCode, answer, err)
	}
	return answer
}

// live has riders all over the city, and bookings in every state.
func (w town) live() {
	w.Helper()
	at := func(i, j int) (lat, lng float64) { return 12.9716 + 0.002*float64(i), 77.5946 + 0.002*float64(j) }
	for i := range 12 {
		rider, user := w.person("raider", i), w.person("user", i)
		lat, lng := at(i*7%21-9, i*11%19-9)
		rider.do("PUT", "/rider/position", fmt.Sprintf(`{"lat":%f,"lng":%f}`, lat, lng))
		if i%4 == 3 {
			continue // this rider is free
		}
		toLat, toLng := at(i*5%17-8, i*13%17-8)
		id, _ := user.do("POST", "/user/book", fmt.Sprintf(`{"pickup":{"lat":%f,"lng":%f},"dropoff":{"lat":%f,"lng":%f}}`,
			lat+0.001, lng, toLat, toLng))["booking_id"].(string)
		if i%4 == 2 {
			continue // this booking stays open
		}
		rider.do("POST", "/rider/accept-booking", `{"booking_id":"`+id+`"}`)
		if i%8 == 0 {
			continue // this rider is on the way
		}
		rider.do("POST", "/rider/bookings/"+id+"/arrive", "{}")
		code, _ := user.do("GET", "/user/bookings/"+id, "")["start_code"].(string)
		rider.do("POST", "/rider/bookings/"+id+"/start", `{"start_code":"`+code+`"}`)
		if i%8 == 1 {
			continue // this ride is under way
		}
		rider.do("POST", "/rider/bookings/"+id+"/complete", "{}")
		user.do("POST", "/user/bookings/"+id+"/rate", `{"stars":5}`)
	}
}
