package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// A chart is what tools/benchplot draws: one line for each series.
type chart struct {
	File   string // of the picture, without its extension
	Title  string
	X      string   // what Labels are
	Labels []string // along the horizontal axis
	Series []series
}

type series struct {
	Name   string
	Values []float64
}

// add adds a point to each series.
func (c *chart) add(label string, values []float64) {
	c.Labels = append(c.Labels, label)
	for i, v := range values {
		c.Series[i].Values = append(c.Series[i].Values, v)
	}
}

// draw writes charts to the file of -charts, where they replace those of the same file.
func draw(b *testing.B, drawn ...*chart) {
	b.Helper()
	if *charts == "" {
		return
	}
	var all []*chart
	text, err := os.ReadFile(*charts)
	if err == nil {
		err = json.Unmarshal(text, &all)
	} else if os.IsNotExist(err) {
		err = os.MkdirAll(filepath.Dir(*charts), 0o755)
	}
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range drawn {
		all = slices.DeleteFunc(all, func(old *chart) bool { return old.File == c.File })
	}
	if text, err = json.MarshalIndent(append(all, drawn...), "", " "); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(*charts, text, 0o600); err != nil {
		b.Fatal(err)
	}
}

// ratesOf returns a chart of rates by the number of clients for each way to sync.
func ratesOf(lines []line) (all []*chart) {
	for _, when := range []string{always, lazily} {
		c := &chart{File: "book-" + when, Title: "Bookings a second, sync " + when, X: "clients"}
		first, second := series{Name: "/book"}, series{}
		for _, l := range lines {
			if l.when != when {
				continue
			}
			c.Labels = append(c.Labels, strconv.Itoa(l.clients))
			first.Values = append(first.Values, median(l.rates(0)))
			second.Name, second.Values = l.than, append(second.Values, median(l.rates(1)))
		}
		c.Series = []series{first, second}
		all = append(all, c)
	}
	return all
}
