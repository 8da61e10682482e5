package alerts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const dashboardsDir = "../../deploy/grafana/dashboards"

// A dashboard is what the tests look at. tools/dashboards holds the files against the whole of
// Grafana's model.
type dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []panel `json:"panels"`
	Templating    struct {
		List []struct {
			Type  string `json:"type"`
			Name  string `json:"name"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	GridPos struct{ X, Y, W, H int } `json:"gridPos"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

func dashboards(t testing.TB) (all []dashboard) {
	t.Helper()
	for _, file := range glob(t, dashboardsDir, "*.json") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		all = append(all, d)
	}
	return all
}

var shown = regexp.MustCompile(`\{\{ *(?:\$labels\.)?(\w+) *\}\}`)

// labelsIn returns the labels that a text, or a legend, names.
func labelsIn(text string) (names []string) {
	for _, m := range shown.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// queries returns the queries of all panels, with a value for Grafana's variables.
func queries(t testing.TB) (all []query) {
	t.Helper()
	filled := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h")
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				all = append(all, query{from: d.Title + ", panel " + p.Title, expr: filled.Replace(target.Expr),
					shows: labelsIn(target.LegendFormat)})
			}
		}
	}
	if len(all) < 30 {
		t.Fatalf("found %d queries of panels", len(all))
	}
	return all
}

// TestDashboards checks that a dashboard asks for its data source, and that every panel uses that,
// has queries, a unit, and a description, and lies beside the others and not on them.
func TestDashboards(t *testing.T) {
	t.Parallel()
	uids := map[string]string{}
	for _, d := range dashboards(t) {
		if before, twice := uids[d.UID]; twice || d.UID == "" {
			t.Errorf("%s has uid %q, as %q has", d.Title, d.UID, before)
		}
		if uids[d.UID] = d.Title; d.SchemaVersion < 39 {
			t.Errorf("%s has schemaVersion %d", d.Title, d.SchemaVersion)
		}
		if v := d.Templating.List; len(v) == 0 || v[0].Type != "datasource" || v[0].Name != "datasource" ||
			v[0].Query != "prometheus" {
			t.Errorf("%s has the variables %+v, and datasource is not the first", d.Title, v)
		}
		ids, cells, panels := map[int]bool{}, map[[2]int]string{}, 0
		for _, p := range d.Panels {
			if ids[p.ID] {
				t.Errorf("%s has two panels %d", d.Title, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := cells[[2]int{x, y}]; other != "" || x > 23 {
						t.Fatalf("%s: panel %s lies on %q, or beyond the page", d.Title, p.Title, other)
					}
					cells[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			panels++
			if p.Title == "" || !strings.HasSuffix(p.Description, ".") || p.FieldConfig.Defaults.Unit == "" {
				t.Errorf("%s: panel %q has unit %q and description %q", d.Title, p.Title, p.FieldConfig.Defaults.Unit,
					p.Description)
			}
			if (p.Datasource != datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s: panel %s has data source %+v", d.Title, p.Title, p.Datasource)
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: panel %s has no query", d.Title, p.Title)
			}
		}
		if panels < 4 {
			t.Errorf("%s has %d panels", d.Title, panels)
		}
	}
	if len(uids) != 6 {
		t.Errorf("there are %d dashboards", len(uids))
	}
}
