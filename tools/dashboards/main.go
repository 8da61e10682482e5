// Command dashboards writes the dashboards of deploy/grafana from a table: one dashboard per file,
// into the folder that is its argument.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: dashboards FOLDER"))
	}
	for _, b := range boards {
		text, err := b.json()
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], b.file+".json"), text, 0o644)
		}
		if err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// json returns the dashboard as Grafana reads it.
func (b board) json() ([]byte, error) {
	d := dashboard.NewDashboardBuilder(b.title).
		Uid("pillion-"+b.file).
		Tags([]string{"pillion"}).
		Refresh("30s").
		Time("now-6h", "now").
		Timezone(common.TimeZoneBrowser).
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
	id := uint32(0)
	for _, r := range b.rows {
		id++
		d.WithRow(dashboard.NewRowBuilder(r.title).Id(id))
		for _, p := range r.panels {
			id++
			d.WithPanel(p.builder(id, len(r.panels)))
		}
	}
	built, err := d.Build()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.title, err)
	}
	text, err := json.MarshalIndent(built, "", " ")
	return append(text, '\n'), err
}

// builder returns the panel with an id, in a row of so many.
func (p panel) builder(id uint32, inRow int) cog.Builder[dashboard.Panel] {
	const height = 8
	span := uint32(8) // columns, of 24
	if inRow == 2 || inRow == 4 {
		span = 12
	}
	source := dashboard.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
	var targets []cog.Builder[variants.Dataquery]
	for i, q := range p.queries {
		target := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Expr(q.expr).LegendFormat(q.legend)
		if p.bars {
			target.Instant()
		}
		targets = append(targets, target)
	}
	if p.bars {
		return bargauge.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Unit(p.unit).Datasource(source).
			Height(height).Span(span).Min(0).Orientation(common.VizOrientationHorizontal).Targets(targets)
	}
	panel := timeseries.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Unit(p.unit).Datasource(source).
		Height(height).Span(span).Targets(targets).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).ShowLegend(true).
			Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).
			Sort(common.SortOrderDescending))
	if !strings.Contains(p.queries[0].expr, "delta(") && !strings.Contains(p.queries[0].expr, "clock_offset") {
		panel.Min(0)
	}
	return panel
}
