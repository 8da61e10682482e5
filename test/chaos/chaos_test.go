//go:build linux

package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/example/pillion/bus"
	"github.com/example/pillion/sim"
	"github.com/example/pillion/web/webtest"
)

// TestChaos breaks a cluster ROUNDS times while people use it. SEED selects the faults, among those
// whose names contain FAULT.
func TestChaos(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv(roundsEnv))
	if rounds == 0 {
		t.Skip("make chaos runs this; in `go test` it is TestFaults that shows each fault once")
	}
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("SEED=%d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	var deck []fault
	next := func() fault { // all of them in random order, before any is repeated
		if len(deck) == 0 {
			deck = possible(os.Getenv("FAULT"))
			chance.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := deck[0]
		deck = deck[1:]
		return f
	}
	var plan []fault
	for range rounds {
		plan = append(plan, next())
	}
	run(t, plan, chance, sim.Crowd{Users: 40, Riders: 40, Rate: 25, Think: 100 * time.Millisecond})
}

// TestFaults runs some faults once, with less load.
func TestFaults(t *testing.T) {
	if os.Getenv(longEnv) == "" {
		t.Skip("make check runs this")
	}
	var plan []fault
	for _, f := range possible("") {
		switch f.name {
		case "kill -9 the leader", "cut a node off", "kill -9 usersvc", "fill a disk", "fail a write", "break a disk",
			"stop the leader":
			f.lasts = exactly(5 * time.Second) // long enough for an election
			plan = append(plan, f)
		}
	}
	run(t, plan, rand.New(rand.NewPCG(rand.Uint64(), 0)), sim.Crowd{Users: 10, Riders: 10, Rate: 10,
		Think: 200 * time.Millisecond})
}

// possible returns the faults that are possible on this machine.
func possible(named string) []fault {
	return slices.DeleteFunc(faults(), func(f fault) bool {
		return f.real && !hosts.real || f.disk && !hosts.disks || f.long && named == "" ||
			!strings.Contains(f.name, named)
	})
}

// run strikes with each fault of a plan under load, and then judges the cluster.
func run(t *testing.T, plan []fault, chance *rand.Rand, crowd sim.Crowd) {
	c := newCluster(t)
	w := newWitness()
	crowd.Seed = chance.Uint64()
	scene, err := crowd.Scene()
	c.must(err)
	people := sim.Config{
		Auth: c.base("authsvc", 3000), User: c.base("usersvc", 3001), Rider: c.base("ridersvc", 3002),
		NATS: &bus.Config{URL: c.urls}, Watchers: 5, Scene: scene, Duration: 24 * time.Hour, Seed: crowd.Seed,
		HTTP: &http.Client{Transport: webtest.Transport(t, w, "../..")},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var report *sim.Report
	loaded := make(chan error, 1)
	go func() {
		var err error
		report, err = sim.Run(ctx, people)
		loaded <- err
	}()
	for _, ok := w.written(0); !ok; _, ok = w.written(0) {
		select {
		case err := <-loaded:
			t.Fatalf("no booking is acknowledged: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	var all []round
	for i, f := range plan {
		r := c.strike(f, w, chance)
		t.Logf("%3d %s", i+1, r)
		all = append(all, r)
	}
	stop()
	c.must(<-loaded)
	c.judge(w, report)
	summarize(t, all)
	var text strings.Builder
	c.must(report.Summarize(&text))
	t.Log(text.String())
}

// summarize prints, for each fault, how long bookings were not acknowledged, and the answer times.
func summarize(t *testing.T, all []round) {
	by := map[string][]round{}
	for _, r := range all {
		by[r.fault] = append(by[r.fault], r)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%-20s %6s %28s %28s\n", "fault", "rounds", "until a booking (s)", "longest answer (s)")
	for _, name := range slices.Sorted(maps.Keys(by)) {
		fmt.Fprintf(&text, "%-20s %6d %s %s\n", name, len(by[name]),
			quantiles(by[name], func(r round) time.Duration { return r.written }),
			quantiles(by[name], func(r round) time.Duration { return r.longest }))
	}
	fates := map[fate]int{}
	for _, r := range all {
		for f, n := range r.fates {
			fates[f] += n
		}
	}
	t.Logf("%d rounds\n%s%v", len(all), text.String(), fates)
}

// quantiles returns the median, the ninth decile and the maximum.
func quantiles(of []round, what func(round) time.Duration) string {
	var all []float64
	for _, r := range of {
		all = append(all, what(r).Seconds())
	}
	slices.Sort(all)
	return fmt.Sprintf("%8.3f p90 %6.3f max %6.3f", all[len(all)/2], all[len(all)*9/10], all[len(all)-1])
}
